"""Read a mixed-model formula: split off the random terms and offsets, leave the rest to formulaic."""

import re
from dataclasses import dataclass

from formulaic import Formula as Terms
from formulaic.errors import FormulaicError

from mlmgen import expressions
from mlmgen.errors import UserError
from mlmgen.expressions import EXAMPLE, OFFSET, WHERE, Split, is_declared_factor, problem
from mlmgen.random_terms import (
    ALLOWED,
    RandomPart,
    check_summand,
    grouping_factors,
    outside_quotes,
    refuse_repeated,
    spans,
    without,
)

__all__ = [
    *("Formula", "Split", "WHERE", "categorical_variables", "computed_variables", "effect_variables"),
    *("fixed_variables", "offset_variables", "parse", "slope_variables", "split_variables", "term_variables"),
    "variables",
]

# formulaic marks the offending token so, between terminal colours.
MARKED = re.compile("⧛(.*?)⧚", re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Formula:
    """A formula in its parts, each in formulaic's grammar.

    Attributes
    ----------
    text : str
        As written, on one line.
    fixed : str
        The fixed effects with their intercept, for example ``1 + condition``. What ``within()`` and
        ``between()`` make is a variable here and below: ```within(x)``` in backticks.
    random : tuple of RandomPart
        In the order of the formula; ``(1 | a/b)`` is two.
    offsets : tuple of str
        Python expressions whose values are added to the linear predictor.
    splits : tuple of Split
        The variables that ``within()`` and ``between()`` make.
    """

    text: str
    fixed: str
    random: tuple[RandomPart, ...]
    offsets: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()


def parse(text: str) -> Formula:
    """Split a formula into its fixed effects, its random terms and its offsets.

    Parameters
    ----------
    text : str
        Such as ``~ condition * age + offset(log(volume)) + (1 + time | donor/sample)``.

    Raises
    ------
    UserError
        Where it cannot be read, pointing at the character.
    """
    if not isinstance(text, str) or not text.strip(" ~\n\t"):
        raise UserError(f"the formula is empty or not a text: {text!r}", WHERE, EXAMPLE)
    text = re.sub(r"\s", " ", text.strip())
    rest = _right_hand_side(text)
    try:
        rest, random, splits = _random(text, rest)
        rest, offsets, of_offsets = _offsets(text, rest)
        fixed, of_fixed = _effects(text, rest)
    except FormulaicError as error:
        raise _from_formulaic(error, text) from None
    return Formula(text, fixed, random, offsets, tuple(dict.fromkeys((*of_fixed, *splits, *of_offsets))))


def variables(formula: Formula) -> tuple[str, ...]:
    """Return the obs columns that a formula uses: those of the fixed effects first, the grouping factors last."""
    splits = {split.name: (*split.columns, *([split.group] if split.group else [])) for split in formula.splits}
    used = [*fixed_variables(formula), *slope_variables(formula), *offset_variables(formula)]
    grouping = [column for part in formula.random for column in part.groups]
    return tuple(dict.fromkeys([*(column for name in used for column in splits.get(name, (name,))), *grouping]))


def fixed_variables(formula: Formula) -> tuple[str, ...]:
    """Return the variables of the fixed effects in the order of the formula: obs columns, and names of splits."""
    return _in_order(_factors(formula.fixed))


def slope_variables(formula: Formula) -> tuple[str, ...]:
    """Return the variables of the random slopes in the order of the formula."""
    return tuple(dict.fromkeys(name for part in formula.random for name in effect_variables(part.effects)))


def effect_variables(effects: str) -> tuple[str, ...]:
    """Return the variables of the effects of one random term."""
    return _in_order(_factors(effects))


def offset_variables(formula: Formula) -> tuple[str, ...]:
    """Return the variables of the offsets."""
    return tuple(dict.fromkeys(name for offset in formula.offsets for name in expressions.names(offset)[0]))


def split_variables(formula: Formula) -> dict[str, Split]:
    """Return the variables that ``within()`` and ``between()`` make, by name."""
    return {split.name: split for split in formula.splits}


def term_variables(formula: Formula) -> tuple[tuple[str, ...], ...]:
    """Return the variables of each term of the fixed effects; the intercept has none."""
    return tuple(_in_order(term.factors) for term in _terms(formula.fixed))


def categorical_variables(formula: Formula) -> tuple[str, ...]:
    """Return the obs columns that the formula declares categorical: inside ``C()`` wherever they occur."""
    inside, outside = set(), set()
    for factor in _all_factors(formula):
        declared = is_declared_factor(factor.expr) if _is_python(factor) else False
        (inside if declared else outside).update(_factor_variables(factor))
    return tuple(name for name in dict.fromkeys(_in_order(_all_factors(formula))) if name in inside - outside)


def computed_variables(fixed: str) -> frozenset[str]:
    """Return the variables in expressions that may depend on all cells together, as in ``center(age)``.

    Parameters
    ----------
    fixed : str
        Fixed effects, or the effects of a random term.
    """
    computed = [factor for factor in _factors(fixed) if _is_python(factor) and not is_declared_factor(factor.expr)]
    return frozenset(name for factor in computed for name in _factor_variables(factor))


def _right_hand_side(text: str) -> str:
    """Blank the leading tilde, so that positions stay those of the text as written."""
    places = [i for i, depth in outside_quotes(text) if text[i] == "~" and depth == 0]
    if places and text[: places[0]].strip():
        message = f"{text[: places[0]].strip()!r} stands before the '~', but the response is always the gene"
        raise problem(message, text, 0, places[0] + 1, "Leave out what is before the '~'.")
    if len(places) > 1:
        raise problem("there is a second '~'", text, places[1], places[1] + 1)
    return " " + text[1:] if places else text


def _random(text: str, rest: str) -> tuple[str, tuple[RandomPart, ...], tuple[Split, ...]]:
    """Read the random terms and blank them."""
    found: list[tuple[RandomPart, set]] = []
    splits: list[Split] = []
    for start, bar, end in spans(text, rest):
        factors, correlated = grouping_factors(text, start, bar, end)
        if not text[start + 1 : bar].strip():
            raise problem("nothing stands before the '|'", text, start, end, ALLOWED)
        effects, more = _effects(text, " " * (start + 1) + text[start + 1 : bar])
        splits += more
        terms = {frozenset(factor.expr for factor in term.factors if _is_variable(factor)) for term in _terms(effects)}
        for groups in factors:
            found.append((RandomPart(groups, effects, correlated), terms))
            refuse_repeated(found, text, start, end)
        rest = without(text, rest, start, end)
    return rest, tuple(part for part, _ in found), tuple(splits)


def _offsets(text: str, rest: str) -> tuple[str, tuple[str, ...], tuple[Split, ...]]:
    """Read the ``offset()`` terms and blank them."""
    found, splits = [], []
    for token in expressions.python_tokens(rest) if rest.strip() else ():
        if not re.match(rf"{OFFSET}\s*\(", token.token):
            continue
        start, end = token.source_start, token.source_end + 1
        depth = dict(outside_quotes(rest))[start]
        do = 'Join it with a plus, as in "~ condition + offset(log(volume)) + (1 | donor)".'
        check_summand(text, rest, start, end, depth > 0, rest[start:end], do)
        bracket = rest.index("(", start)
        inside = f"{{{rest[bracket + 1 : end - 1]}}}"
        if not inside.strip("{ }"):
            raise problem("offset() is empty", text, start, end, do)
        expressions.check(text, " " * bracket + inside)
        expression, more = expressions.without_splits(inside)
        found.append(expression[1:-1].strip())
        splits += more
        rest = without(text, rest, start, end)
    return rest, tuple(found), tuple(splits)


def _effects(text: str, rest: str) -> tuple[str, tuple[Split, ...]]:
    """Check the fixed effects, or those of a random term, and write them with their intercept."""
    if not rest.strip():
        return "1", ()
    expressions.check(text, rest)
    if not _terms(rest):
        start = len(rest) - len(rest.lstrip())
        raise problem("there is neither an intercept nor a variable", text, start, len(rest.rstrip()))
    fixed, splits = expressions.without_splits(" ".join(rest.split()))
    has_intercept = any(str(term) == "1" for term in _terms(fixed))
    return f"1 + {fixed}" if has_intercept and not re.match(r"1\b|\+", fixed) else fixed, splits


def _terms(fixed: str) -> list:
    """Parse effects into formulaic's terms."""
    return list(Terms(fixed))


def _factors(fixed: str) -> list:
    return [factor for term in _terms(fixed) for factor in term.factors]


def _all_factors(formula: Formula) -> list:
    return [
        factor
        for effects in (formula.fixed, *(part.effects for part in formula.random))
        for factor in _factors(effects)
    ]


def _in_order(factors) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for factor in factors for name in _factor_variables(factor)))


def _from_formulaic(error: Exception, text: str) -> UserError:
    """Turn formulaic's exception into one that points at a character of the text as written."""
    plain = COLOUR.sub("", str(error))
    message = plain.split("\n")[0].rstrip(".").replace("insuffient", "insufficient")
    if "quote context" in message:
        message = f"a quote or parenthesis is not closed, a {message[-1]} is missing"
    marked = MARKED.search(plain)
    if "`.` operator" in message:
        start = next((i for i, _ in outside_quotes(text) if text[i] == "."), 0)
        return problem("the wildcard '.' is not supported", text, start, start + 1, "Name the columns.")
    if marked is None:
        return problem(message[:1].lower() + message[1:], text, 0, len(text))
    start = len(plain[: marked.start()].split("\n\n", 1)[-1])
    return problem(message[:1].lower() + message[1:], text, start, start + len(marked[1]))


def _is_python(factor) -> bool:
    return factor.eval_method.value == "python"


def _is_variable(factor) -> bool:
    return factor.eval_method.value != "literal"


def _factor_variables(factor) -> list[str]:
    """Return the variables of one factor of a term."""
    if not _is_variable(factor):
        return []
    return expressions.names(factor.expr)[0] if _is_python(factor) else [factor.expr]
