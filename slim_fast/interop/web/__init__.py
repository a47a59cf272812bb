"""A classifier in a web page that runs it in the browser."""

from slim_fast.interop.web.page import WebPage, write_web_page
from slim_fast.interop.web.runtime import Runtime, read_runtime

__all__ = ["Runtime", "WebPage", "read_runtime", "write_web_page"]
