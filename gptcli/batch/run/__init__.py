"""Where rows are computed: in this process, in workers, on a Ray cluster."""
