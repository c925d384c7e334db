"""Reports of runs: HTML pages, comparisons of methods, figures for print and pictures for the terminal."""
