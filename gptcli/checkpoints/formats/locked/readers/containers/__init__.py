"""File formats that hold arrays by name: what lies where, checked before a value is read."""
