"""The node types of the product. Importing this package registers all of them."""

from executions.nodes import ai, approval, browser, children, code, data, deliver, extract, flow, messages, team

__all__ = ["ai", "approval", "browser", "children", "code", "data", "deliver", "extract", "flow", "messages", "team"]
