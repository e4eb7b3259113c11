"""What `weighbridge demo` is made of: child processes, a load, an audit of all counts, and what is shown."""
