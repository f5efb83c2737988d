"""The node types of the product. Importing this package registers all of them."""

from executions.nodes import approval, browser, children, data, deliver, extract, flow

__all__ = ["approval", "browser", "children", "data", "deliver", "extract", "flow"]
