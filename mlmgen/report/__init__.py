"""The report of a run: one HTML file with all of its numbers, rounded and compressed, and the page that shows them."""
