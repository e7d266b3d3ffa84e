"""What is made of a benchmark's JSON: plots, one HTML page, two runs side by side."""
