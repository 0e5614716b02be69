"""GlitchFlow: digital twins of gravitational-wave detector noise."""
