"""Pure functions of energies, and their pictures: metrics, clusters and vetoes, baselines, intervals, figures."""
