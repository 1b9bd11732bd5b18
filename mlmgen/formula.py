"""Read a mixed-model formula: split off the random intercepts, leave the rest to formulaic."""

import ast
import re
from dataclasses import dataclass

from formulaic import Formula as FixedEffects
from formulaic.errors import FormulaicError
from formulaic.parser.algos.tokenize import tokenize
from formulaic.transforms import TRANSFORMS

from mlmgen.errors import UserError, nearest

WHERE = "configuration key formula"
ALLOWED = (
    "Only random intercepts are supported so far: (1 | a), (1 | a:b) and (1 | a/b), which means (1 | a) + (1 | a:b)."
)
EXAMPLE = 'Write it like "~ condition + (1 | donor)"; column names with spaces or signs go in `backticks`.'
INTERCEPT = re.compile(r"\s*1\s*")
GROUPS = re.compile(r"\s*(`[^`]+`|\w[\w.]*)\s*(?:([:/])|$)")
QUOTED = re.compile(r"`([^`]*)`")
# formulaic marks the offending token so, between terminal colours.
MARKED = re.compile("⧛(.*?)⧚", re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PLAIN_FUNCTIONS = frozenset({"abs", "min", "max", "round", "pow", "int", "float", "str"})
REFUSED_FUNCTIONS = {
    "lag": "its result depends on the order of the cells",
    "Q": "write the column's name in `backticks` instead",
    "hashed": "its groups are arbitrary",
}


@dataclass(frozen=True)
class Formula:
    """A formula in two parts.

    Attributes
    ----------
    text : str
        As written, on one line.
    fixed : str
        The fixed effects in formulaic's grammar, for example ``1 + condition``.
    random : tuple of tuple of str
        The grouping factor of each random intercept as the obs columns that are crossed to form it;
        joined by ``:`` it is the name of the term, for example ``donor:condition``.
    """

    text: str
    fixed: str
    random: tuple[tuple[str, ...], ...]


def parse(text: str) -> Formula:
    """Split a formula into its fixed effects and its random intercepts.

    Parameters
    ----------
    text : str
        Such as ``~ condition * age + (1 | donor/sample)``.

    Raises
    ------
    UserError
        Where it cannot be read, pointing at the character.
    """
    if not isinstance(text, str) or not text.strip(" ~\n\t"):
        raise UserError(f"the formula is empty or not a text: {text!r}", WHERE, EXAMPLE)
    text = re.sub(r"\s", " ", text.strip())
    rest = _right_hand_side(text)
    spans = _random_spans(text, rest)
    random: list[tuple[str, ...]] = []
    for start, end in spans:
        for group in _groups(text, start, end):
            if any(set(group) == set(other) for other in random):
                raise _problem(f"the random intercept of {':'.join(group)} is there twice", text, start, end)
            random.append(group)
        rest = _without(text, rest, start, end)
    return Formula(text, _fixed(text, rest), tuple(random))


def variables(formula: Formula) -> tuple[str, ...]:
    """Return the obs columns that a formula uses: those of the fixed effects, then those of the random ones."""
    grouping = [column for group in formula.random for column in group]
    return tuple(dict.fromkeys([*fixed_variables(formula), *grouping]))


def fixed_variables(formula: Formula) -> tuple[str, ...]:
    """Return the obs columns of the fixed effects in the order of the formula."""
    return tuple(dict.fromkeys(name for term in term_variables(formula) for name in term))


def term_variables(formula: Formula) -> tuple[tuple[str, ...], ...]:
    """Return the obs columns of each term of the fixed effects; the intercept has none."""
    terms = _formulaic(formula.fixed)
    return tuple(tuple(dict.fromkeys(n for f in t.factors for n in _factor_columns(f))) for t in terms)


def categorical_variables(formula: Formula) -> tuple[str, ...]:
    """Return the obs columns that the formula declares categorical: inside ``C()`` wherever they occur."""
    inside, outside = set(), set()
    for term in _formulaic(formula.fixed):
        for factor in term.factors:
            columns = _factor_columns(factor)
            declared = is_declared_factor(factor.expr) if _is_python(factor) else False
            (inside if declared else outside).update(columns)
    return tuple(name for name in fixed_variables(formula) if name in inside - outside)


def is_declared_factor(expression: str) -> bool:
    """Tell whether an expression is ``C()`` of a plain column."""
    tree = _tree(expression)[0].body
    return isinstance(tree, ast.Call) and _name(tree.func) == "C" and bool(tree.args) and bool(_name(tree.args[0]))


def computed_variables(formula: Formula) -> frozenset[str]:
    """Return the obs columns in expressions that may depend on all cells together, as in ``center(age)``."""
    factors = [factor for term in _formulaic(formula.fixed) for factor in term.factors]
    computed = [factor for factor in factors if _is_python(factor) and not is_declared_factor(factor.expr)]
    return frozenset(name for factor in computed for name in _factor_columns(factor))


def _right_hand_side(text: str) -> str:
    """Blank the leading tilde, so that positions stay those of the text as written."""
    places = [i for i, depth in _outside_quotes(text) if text[i] == "~" and depth == 0]
    if places and text[: places[0]].strip():
        message = f"{text[: places[0]].strip()!r} stands before the '~', but the response is always the gene"
        raise _problem(message, text, 0, places[0] + 1, "Leave out what is before the '~'.")
    if len(places) > 1:
        raise _problem("there is a second '~'", text, places[1], places[1] + 1)
    return " " + text[1:] if places else text


def _outside_quotes(text: str) -> list[tuple[int, int]]:
    """Return the place and the depth in parentheses of each character that no quote or backtick covers."""
    found, closing, depth = [], "", 0
    for i, character in enumerate(text):
        if closing:
            closing = "" if character == closing else closing
        elif character in "`'\"":
            closing = character
        else:
            depth -= character == ")"
            found.append((i, depth))
            depth += character == "("
    return found


def _random_spans(text: str, rest: str) -> list[tuple[int, int]]:
    """Find the parentheses that hold a random term; each must be a summand of its own."""
    opened: list[int] = []
    spans: list[tuple[int, int]] = []
    bars: dict[int, int] = {}
    for i, _ in _outside_quotes(rest):
        if rest[i] == "(":
            opened.append(i)
        elif rest[i] == ")" and opened:
            start = opened.pop()
            if start in bars and not any(_is_call(rest, place) for place in [*opened, start]):
                _check_summand(text, rest, start, i + 1, nested=bool(opened))
                spans.append((start, i + 1))
        elif rest[i] == "|":
            if not opened:
                raise _problem("a '|' outside parentheses", text, i, i + 1, ALLOWED)
            bars.setdefault(opened[-1], i)
    for start in opened:
        if start in bars and not _is_call(rest, start):
            raise _problem("a parenthesis that is not closed", text, start, len(text), ALLOWED)
    return spans


def _is_call(rest: str, start: int) -> bool:
    return start > 0 and (rest[start - 1].isalnum() or rest[start - 1] in "_.")


def _check_summand(text: str, rest: str, start: int, end: int, nested: bool) -> None:
    before, after = rest[:start].rstrip()[-1:], rest[end:].lstrip()[:1]
    if nested or before not in ("", "+") or after not in ("", "+", "-"):
        message = f"the random term {rest[start:end]} is not a summand of its own"
        raise _problem(message, text, start, end, 'Join it with a plus, as in "~ condition + (1 | donor)".')


def _groups(text: str, start: int, end: int) -> list[tuple[str, ...]]:
    """Read ``(1 | a/b:c)``: the grouping factors that it stands for."""
    left, _, right = text[start + 1 : end - 1].partition("|")
    if not INTERCEPT.fullmatch(left):
        message = f"{text[start:end]} asks for a random slope or another structure than an intercept"
        raise _problem(message, text, start, end, ALLOWED)
    groups: list[tuple[str, ...]] = [()]
    place = 0
    while match := GROUPS.match(right, place):
        groups[-1] += (match[1].strip("`"),)
        place = match.end()
        if not match[2]:
            break
        if match[2] == "/":
            groups.append(groups[-1])
    else:
        rest = right[place:].lstrip()
        at = end - 1 - len(rest)
        do = f"{ALLOWED} Names with spaces or signs go in `backticks`."
        raise _problem("expected the name of an obs column here", text, at, end, do)
    if any(len(set(group)) < len(group) for group in groups):
        raise _problem(f"a column is named twice in {text[start:end]}", text, start, end)
    return groups


def _without(text: str, rest: str, start: int, end: int) -> str:
    """Blank a random term with the plus that joins it; positions stay."""
    head, tail = rest[:start], rest[end:]
    plus = len(head.rstrip()) - 1
    if head.strip():
        head = head[:plus] + " " * (len(head) - plus)
    elif tail.lstrip().startswith("+"):
        plus = tail.index("+")
        tail = tail[:plus] + " " + tail[plus + 1 :]
        if not tail.strip():
            raise _problem("nothing follows the last '+'", text, end + plus, end + plus + 1)
    return head + " " * (end - start) + tail


def _fixed(text: str, rest: str) -> str:
    """Check the fixed effects and write them with their intercept."""
    if not rest.strip():
        return "1"
    try:
        _check_expressions(text, rest)
        terms = _formulaic(rest)
    except FormulaicError as error:
        raise _from_formulaic(error, text) from None
    if not terms:
        raise _problem("there is neither an intercept nor a variable", text, 0, len(text))
    fixed = " ".join(rest.split())
    has_intercept = any(str(term) == "1" for term in terms)
    return f"1 + {fixed}" if has_intercept and not re.match(r"1\b|\+", fixed) else fixed


def _formulaic(fixed: str) -> list:
    """Parse the fixed effects into formulaic's terms."""
    return list(FixedEffects(fixed))


def _from_formulaic(error: Exception, text: str) -> UserError:
    """Turn formulaic's exception into one that points at a character of the text as written."""
    plain = COLOUR.sub("", str(error))
    message = plain.split("\n")[0].rstrip(".").replace("insuffient", "insufficient")
    if "quote context" in message:
        message = f"a quote or parenthesis is not closed, a {message[-1]} is missing"
    marked = MARKED.search(plain)
    if "`.` operator" in message:
        start = next((i for i, _ in _outside_quotes(text) if text[i] == "."), 0)
        return _problem("the wildcard '.' is not supported", text, start, start + 1, "Name the columns.")
    if marked is None:
        return _problem(message[:1].lower() + message[1:], text, 0, len(text))
    start = len(plain[: marked.start()].split("\n\n", 1)[-1])
    return _problem(message[:1].lower() + message[1:], text, start, start + len(marked[1]))


def _check_expressions(text: str, rest: str) -> None:
    """Check the Python expressions of a formula before any data is read."""
    for token in tokenize(rest):
        if token.kind is None or token.kind.value != "python":
            continue
        start, end = token.source_start, token.source_end + 1
        try:
            functions = _expression_names(token.token)[1]
        except SyntaxError:
            raise _problem(f"{text[start:end]} is not a valid expression", text, start, end) from None
        for name in functions:
            _check_function(name, text, start, end)


def _check_function(name: str, text: str, start: int, end: int) -> None:
    known = sorted((set(TRANSFORMS) | PLAIN_FUNCTIONS) - set(REFUSED_FUNCTIONS))
    if name in REFUSED_FUNCTIONS:
        raise _problem(f"{name}() cannot be used: {REFUSED_FUNCTIONS[name]}", text, start, end)
    if name not in known:
        do = f"{nearest(name, known)}The functions are: {', '.join(known)}."
        raise _problem(f"there is no function {name!r}", text, start, end, do)


def _is_python(factor) -> bool:
    return factor.eval_method.value == "python"


def _factor_columns(factor) -> list[str]:
    """Return the obs columns of one factor of a term."""
    if factor.eval_method.value == "literal":
        return []
    return _expression_names(factor.expr)[0] if _is_python(factor) else [factor.expr]


def _expression_names(expression: str) -> tuple[list[str], list[str]]:
    """Return the obs columns and the functions of a Python expression."""
    tree, aliases = _tree(expression)
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    known = set(TRANSFORMS) | PLAIN_FUNCTIONS | set(called)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in known]
    return [aliases.get(name, name) for name in names], called


def _tree(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """Parse an expression, backticked names replaced by aliases."""
    aliases: dict[str, str] = {}

    def alias(match: re.Match) -> str:
        key = f"column_{len(aliases)}_in_backticks"
        aliases[key] = match[1]
        return key

    return ast.parse(QUOTED.sub(alias, expression.strip()), mode="eval"), aliases


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _problem(message: str, text: str, start: int, end: int, do: str = EXAMPLE) -> UserError:
    """Build the error that quotes the formula up to the place."""
    shown = text[:end].rstrip()
    return UserError(f"the formula cannot be read: {message}: {shown}  <- here, at character {start + 1}", WHERE, do)
