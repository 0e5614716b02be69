"""The twin online: frames that appear in a directory in, cleaned frames out, second by second, through restarts.

    directory --source.py--> one second of samples --line.py--> cleaned seconds, and what is remembered
    --sink.py--> frames and what is remembered, both or none of them

`watch.py` is the loop. What is removed of a second is what `clean` with the same block and settle removes of it.
"""
