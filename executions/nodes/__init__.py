"""The node types of the product. Importing this package registers all of them."""

from executions.nodes import approval, browser, children, code, data, deliver, extract, flow, team

__all__ = ["approval", "browser", "children", "code", "data", "deliver", "extract", "flow", "team"]
