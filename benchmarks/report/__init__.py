"""How large the report of a large run is, and how long it takes to make."""
