"""Python expressions in a formula: their columns and functions, and ``within()`` and ``between()``."""

import ast
import re
from dataclasses import dataclass

from formulaic.parser.algos.tokenize import tokenize
from formulaic.transforms import TRANSFORMS

from mlmgen.errors import UserError, nearest

WHERE = "configuration key formula"
EXAMPLE = 'Write it like "~ condition + (1 | donor)"; column names with spaces or signs go in `backticks`.'
QUOTED = re.compile(r"`([^`]*)`")
PLAIN_FUNCTIONS = frozenset({"abs", "min", "max", "round", "pow", "int", "float", "str"})
# The mean of a covariate over the cells of a donor, and what each cell differs from it.
WITHIN, BETWEEN = "within", "between"
SPLITS = (WITHIN, BETWEEN)
OFFSET = "offset"
SPLIT_NAME = re.compile(r"(?:within|between)\((.*?)(?:, [^()]*)?\)")
SPLIT_USE = "Write within(x) and between(x), or within(x, sample) for the mean over another obs column than the donor."
REFUSED_FUNCTIONS = {
    "lag": "its result depends on the order of the cells",
    "Q": "write the column's name in `backticks` instead",
    "hashed": "its groups are arbitrary",
}


@dataclass(frozen=True)
class Split:
    """A variable that ``within()`` or ``between()`` makes of a covariate.

    Attributes
    ----------
    name : str
        As it is called in the names of coefficients: ``within(x)``, ``between(x, sample)``.
    kind : str
        ``within`` or ``between``.
    expression : str
        The covariate: a column or an expression such as ``log(x)``.
    columns : tuple of str
        Its obs columns.
    group : str
        The obs column over whose groups means are taken; empty for the donor.
    """

    name: str
    kind: str
    expression: str
    columns: tuple[str, ...]
    group: str


def tree(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """Parse an expression, backticked names replaced by aliases, which are returned with their names."""
    aliases: dict[str, str] = {}

    def alias(match: re.Match) -> str:
        key = f"column_{len(aliases)}_in_backticks"
        aliases[key] = match[1]
        return key

    return ast.parse(QUOTED.sub(alias, expression.strip()), mode="eval"), aliases


def names(expression: str) -> tuple[list[str], list[str]]:
    """Return the obs columns and the functions of a Python expression."""
    parsed, aliases = tree(expression)
    return _columns(parsed, aliases), _called(parsed)


def plain_name(node: ast.AST) -> str:
    """Return the name that a node of an expression is, or nothing."""
    return node.id if isinstance(node, ast.Name) else ""


def is_call(expression: str, function: str) -> bool:
    """Tell whether an expression is a call of one function."""
    parsed = tree(expression)[0].body
    return isinstance(parsed, ast.Call) and plain_name(parsed.func) == function


def is_declared_factor(expression: str) -> bool:
    """Tell whether an expression is ``C()`` of a plain column."""
    call = tree(expression)[0].body
    return is_call(expression, "C") and bool(call.args) and bool(plain_name(call.args[0]))


def check(text: str, fragment: str) -> None:
    """Check the Python expressions of a fragment of a formula before any data is read.

    Parameters
    ----------
    text : str
        The formula.
    fragment : str
        Part of it with the rest blanked, so that positions are those of the formula.

    Raises
    ------
    UserError
        Pointing at an expression that is none, or that calls an unknown function.
    """
    for token in python_tokens(fragment):
        start, end = token.source_start + (fragment[token.source_start] == "{"), token.source_end + 1
        try:
            parsed, aliases = tree(token.token)
        except SyntaxError:
            raise problem(f"{text[start:end]} is not a valid expression", text, start, end) from None
        for name in _called(parsed):
            _check_function(name, text, start, end)
        for call in _splits(parsed):
            _check_split(call, aliases, text, start, end)


def without_splits(fragment: str) -> tuple[str, tuple[Split, ...]]:
    """Replace ``within()`` and ``between()`` in a checked fragment of a formula by variables of that name.

    Returns
    -------
    fragment : str
        With ```within(x)``` in backticks for ``within(x)``.
    splits : tuple of Split
    """
    found: list[Split] = []
    for token in reversed(python_tokens(fragment)):
        start, end = token.source_start, token.source_end + 1
        expression, splits = _replaced(token.token.strip())
        if splits:
            brace = "{" if fragment[start] == "{" else ""
            fragment = f"{fragment[:start]}{brace}{expression}{fragment[end:]}"
            found = [*splits, *found]
    return fragment, tuple(dict.fromkeys(found))


def split_source(name: str) -> str:
    """Return the covariate of ``within(x)`` or ``between(x, sample)``, and any other name as it is."""
    match = SPLIT_NAME.fullmatch(name)
    return match[1] if match else name


def python_tokens(fragment: str) -> list:
    """Return formulaic's tokens that hold a Python expression."""
    return [token for token in tokenize(fragment) if token.kind is not None and token.kind.value == "python"]


def problem(message: str, text: str, start: int, end: int, do: str = EXAMPLE) -> UserError:
    """Build the error that quotes a formula up to the place."""
    shown = text[:end].rstrip()
    return UserError(f"the formula cannot be read: {message}: {shown}  <- here, at character {start + 1}", WHERE, do)


def _replaced(expression: str) -> tuple[str, list[Split]]:
    """Replace the splits of one Python expression."""
    parsed, aliases = tree(expression)
    calls = sorted(_splits(parsed), key=lambda call: call.col_offset)
    splits = [_split(call, aliases) for call in calls]
    back = {name: alias for alias, name in reversed(aliases.items())}
    # ast counts bytes
    source = QUOTED.sub(lambda match: back[match[1]], expression).encode()
    for call, split in zip(reversed(calls), reversed(splits), strict=True):
        source = source[: call.col_offset] + f"`{split.name}`".encode() + source[call.end_col_offset :]
    return _in_backticks(source.decode(), aliases), splits


def _in_backticks(source: str, aliases: dict[str, str], quote: str = "`") -> str:
    for alias, name in aliases.items():
        source = source.replace(alias, f"{quote}{name}{quote}")
    return source


def _split(call: ast.Call, aliases: dict[str, str]) -> Split:
    written = [ast.unparse(argument) for argument in call.args]
    expression = _in_backticks(written[0], aliases)
    arguments = [_in_backticks(argument, aliases, quote="") for argument in written]
    columns = tuple(dict.fromkeys(_columns(call.args[0], aliases)))
    kind = plain_name(call.func)
    return Split(f"{kind}({', '.join(arguments)})", kind, expression, columns, (*arguments[1:], "")[0])


def _splits(parsed: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(parsed) if isinstance(node, ast.Call)]
    return [call for call in calls if plain_name(call.func) in SPLITS]


def _check_split(call: ast.Call, aliases: dict[str, str], text: str, start: int, end: int) -> None:
    kind = plain_name(call.func)
    group = call.args[1:]
    if call.keywords or len(call.args) not in (1, 2) or any(not plain_name(argument) for argument in group):
        raise problem(
            f"{kind}() takes a covariate and, if wanted, one obs column of groups", text, start, end, SPLIT_USE
        )
    if not _columns(call.args[0], aliases):
        raise problem(f"{kind}() has no obs column to average", text, start, end, SPLIT_USE)
    if any(_splits(argument) for argument in call.args):
        raise problem(f"within() and between() cannot hold each other, as {kind}() does", text, start, end, SPLIT_USE)


def _check_function(name: str, text: str, start: int, end: int) -> None:
    known = sorted((set(TRANSFORMS) | PLAIN_FUNCTIONS | {*SPLITS, OFFSET}) - set(REFUSED_FUNCTIONS))
    if name == OFFSET:
        do = 'Offsets are added to the fixed effects: "~ condition + offset(log(volume)) + (1 | donor)".'
        raise problem("offset() is not a term of its own", text, start, end, do)
    if name in REFUSED_FUNCTIONS:
        raise problem(f"{name}() cannot be used: {REFUSED_FUNCTIONS[name]}", text, start, end)
    if name not in known:
        do = f"{nearest(name, known)}The functions are: {', '.join(known)}."
        raise problem(f"there is no function {name!r}", text, start, end, do)


def _called(parsed: ast.AST) -> list[str]:
    return [node.func.id for node in ast.walk(parsed) if isinstance(node, ast.Call) and plain_name(node.func)]


def _columns(parsed: ast.AST, aliases: dict[str, str]) -> list[str]:
    known = set(TRANSFORMS) | PLAIN_FUNCTIONS | set(_called(parsed))
    found = [node.id for node in ast.walk(parsed) if isinstance(node, ast.Name) and node.id not in known]
    return [aliases.get(name, name) for name in found]
