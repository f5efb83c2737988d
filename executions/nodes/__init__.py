"""The node types of the product. Importing this package registers all of them."""

from executions.nodes import browser, data, deliver, extract, flow

__all__ = ["browser", "data", "deliver", "extract", "flow"]
