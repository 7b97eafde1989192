"""/openapi.json: what the routes take and give, made of the same declarations."""
