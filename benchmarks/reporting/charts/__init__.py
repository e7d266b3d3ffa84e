"""The plots of reports: one file per benchmark, and what they share."""
