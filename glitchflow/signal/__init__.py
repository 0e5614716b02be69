"""Time series and Q-plots."""
