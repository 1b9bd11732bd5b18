"""The structure of the code: imports point down, modules and functions stay small, names stay apart."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlmgen"

# From the top down; a module may import those below it, and those beside it on its own line.
LAYERS = (
    ("__main__",),
    ("completion",),
    ("cli",),
    ("cli_commands", "cli_stages"),
    ("arguments",),
    ("run", "workflow_events"),
    ("display",),
    ("checking", "time_left"),
    ("jobs",),
    ("kernel_cache",),
    ("proposal",),
    ("adapters", "notebook", "pl"),
    ("stages_audit", "stages_contrasts", "stages_fit", "stages_prepare", "stages_stability", "stages_tables"),
    ("describe", "gene", "report"),
    ("description", "run_report"),
    ("story",),
    ("findings",),
    ("splitting", "studies"),
    ("gathered",),
    ("sizing", "summary"),
    ("concordance",),
    ("tables", "audit_tables"),
    ("io", "columns"),
    ("simulate",),
    ("prepare",),
    ("audit", "leave_out"),
    ("inference",),
    ("model_tests", "wald"),
    ("agreement", "shrinkage", "stability"),
    ("fdr",),
    ("moderate",),
    ("variance_prior",),
    ("fitting",),
    ("conditional",),
    ("multilevel",),
    ("variance_grid",),
    ("levels", "threads"),
    ("design_lint",),
    ("comparisons", "design_power", "within_donors"),
    ("arms",),
    ("contrasts",),
    ("exchange",),
    ("design",),
    ("design_checks",),
    ("design_rank", "design_warnings", "design_origins"),
    ("patterns",),
    ("design_terms",),
    ("design_parts",),
    ("model_matrix",),
    ("cell_means",),
    ("evaluation",),
    ("obs_columns",),
    ("variance_partition",),
    ("design_rows",),
    ("counts", "formula", "compress", "cubature", "pseudobulk", "sizefactors", "filters", "thinning"),
    ("random_terms", "replicates", "without_donor"),
    ("expressions",),
    ("dependence", "groups"),
    ("types",),
    ("kernels",),
    ("shards",),
    ("config_file", "terminal"),
    ("config", "cores", "costs", "design_columns", "names", "status", "progress", "provenance", "slurm"),
    ("errors",),
    ("__init__",),
)
# The same within the subpackage of the Python API.
NOTEBOOK = (
    ("api",),
    ("comparison", "gee", "marginal", "predictions", "tested"),
    ("model_summary", "new_rows"),
    ("designed", "fitted"),
    ("model",),
    ("bar", "responses", "wording"),
    ("__init__",),
)
NOTEBOOK_LEVEL = {name: level for level, names in enumerate(NOTEBOOK) for name in names}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = ("pandas", "anndata", "scanpy", "formulaic")
LIGHT = {
    "stages_fit": HEAVY,
    "stages_stability": HEAVY,
    "leave_out": HEAVY,
    "cli": ("numpy", "numba", "pandas", "h5py"),
}
MOST_LINES_MODULE = 400
MOST_LINES_FUNCTION = 50
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "base", "misc"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted_imports(tree: ast.AST) -> list[list[str]]:
    """What a module imports of mlmgen anywhere, each as the parts of its dotted name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [name.split(".") for name in dotted if name.split(".")[0] == "mlmgen"]
    return found


def imported(tree: ast.AST) -> set[str]:
    """The parts of mlmgen that a module imports, as names in LEVEL."""
    return {parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__" for parts in dotted_imports(tree)}


def id_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_imports_point_down(path):
    own = layer(path)
    assert own in LEVEL, f"{own} has no place in LAYERS"
    for name in imported(ast.parse(path.read_text())) - {own, "__init__"}:
        assert LEVEL[name] >= LEVEL[own], f"{own} imports {name} from above"


@pytest.mark.parametrize("path", sorted((PACKAGE / "notebook").glob("*.py")), ids=id_of)
def test_imports_point_down_in_the_notebook(path):
    own = path.stem
    assert own in NOTEBOOK_LEVEL, f"{own} has no place in NOTEBOOK"
    for parts in dotted_imports(ast.parse(path.read_text())):
        if parts[1:2] == ["notebook"] and parts[2] != own:
            assert NOTEBOOK_LEVEL[parts[2]] >= NOTEBOOK_LEVEL[own], f"{own} imports {parts[2]} from above"


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES_MODULE
    assert path.stem not in FORBIDDEN_NAMES
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{node.name}: {length}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions) and (length := lines_of_code(node)) >= MOST_LINES_FUNCTION
    ]
    assert not long


def lines_of_code(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_no_model_classes(path):
    """Classes hold data, name an error or an enumeration, or keep the state of a terminal or an open file."""
    allowed = {"NamedTuple", "IntEnum", "Exception"}
    stateful = {"Events", "Tee", "Progress", "Sealed", "Failing"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name not in stateful:
            frozen = any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            assert frozen or bases & allowed, f"{node.name} is neither a frozen dataclass nor a plain record"


@pytest.mark.parametrize(("module", "heavy"), LIGHT.items())
def test_start_up_is_light(module, heavy):
    """In a fresh interpreter, what a fit job imports does not include what it does not need."""
    code = f"import sys, mlmgen.{module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_engine_is_light():
    code = (
        "import sys, mlmgen.fitting, mlmgen.moderate, mlmgen.inference;"
        "print(*[name for name in ('pandas', 'anndata', 'scanpy', 'formulaic') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
