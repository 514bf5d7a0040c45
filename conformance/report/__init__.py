"""Results as data, and what people see of them."""
