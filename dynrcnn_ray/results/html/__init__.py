"""report.html: one page with every table, figure and trial of a store."""
