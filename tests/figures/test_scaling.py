from glitchflow.figures.scaling import MODES, Measurement, draw_scaling


def test_speed_efficiency_and_the_parts_of_a_step():
    rows = [Measurement(m, n, 8, 100.0 * n, 1.0, 0.1, 0.08, 0.01, 0.01) for m in MODES for n in (1, 2)]
    speed, efficiency, parts = draw_scaling(rows, "").axes
    assert [line.get_label() for line in speed.lines] == ["strong", "weak", "ideal"]
    assert list(efficiency.lines[0].get_ydata()) == [1.0, 1.0]
    assert len(parts.patches) == 3 * len(rows)
