"""config.pbtxt as Triton reads it: protobuf's text format with positions. No I/O."""

from tritonforge.pbtxt.document import Document, Message, Node, Problem, ProblemKind
from tritonforge.pbtxt.parser import MAXIMAL_PROBLEMS, parse
from tritonforge.pbtxt.tokens import MAXIMAL_CHARACTERS, MAXIMAL_TOKENS

__all__ = ["MAXIMAL_CHARACTERS", "MAXIMAL_PROBLEMS", "MAXIMAL_TOKENS", "Document", "Message", "Node", "Problem",
           "ProblemKind", "parse"]  # fmt: skip
