"""What the name of a column says about its role, as laboratories and programs name them."""

import itertools
import re

# Points for a word, for each role. A word counts as a whole piece of a name, or as two pieces joined.
DONOR = {
    3.0: "donor donorid donors individual individuals patient patients patientid subject subjects subjectid "
    "participant person ind indiv mouse mice animal volunteer proband pt monkey macaque pig rat fish embryo twin "
    "personid individualid hostid biosubject caseid host projid rosmapid",
    2.0: "replicate rep biorep replicates biologicalreplicate bioreplicate biosample rep donorlabel",
    1.0: "sample samples sampleid specimen origident library libraryid demux hto best singlet assignment",
}
CONDITION = {
    3.0: "condition conditions treatment stim stimulation stimulus disease diseases diagnosis status perturbation "
    "treat treated infection infected exposure intervention arm drug casecontrol phenotype severity genotype dose "
    "cohortgroup diseasestate diseasestatus outcome vaccination challenge compound knockout ko mutation "
    "trt dx health healthstatus healthy cytokine vaccine diseased inflammation clinical pathology affected",
    2.0: "group groups label timepoint time response responder state cc case pathology stage diet regimen stress",
    1.0: "sex gender smoking smoker tissue region cohort strain line agegroup class type day visit",
}
CELL_TYPE = {
    3.0: "celltype celltypes cellt ctype annotation annotations annot subclass celllabel celllabels cellclass "
    "cellsubtype celltypist cellontology cellannotation predictedcelltype majorcelltype cellpopulation "
    "cellidentity celllineage",
    2.0: "subtype lineage compartment class population supercluster majortype clustername labels idents cell "
    "azimuth singler ct ctcov clustering manual",
    1.0: "cluster clusters leiden louvain seurat snn phenograph seuratclusters type",
}
SAMPLE = {
    3.0: "sample samples sampleid specimen library libraryid origident biosample biopsy aliquot gem visit samplename",
    1.0: "channel well orig lane hash hto",
}
BATCH = {
    3.0: "batch batches pool pools lane lanes run runs chip plate flowcell chemistry technology platform assay study "
    "dataset datasets project site center centre hospital lab sequencing seq capture date processing multiplex library "
    "channel well experiment method kit institute batchid",
}
TRAIT = {
    3.0: "sex gender age ethnicity race bmi smoking smoker species organism tissue organ region ancestry height weight "
    "selfreportedethnicity developmentstage",
}
TIME = {3.0: "day days week weeks month months hour hours time timepoint visit dpi dpt hpi hpt year years minutes"}
# What is measured or computed for each cell: never a donor, a condition or a cell type.
MEASURED = {
    3.0: "ncount nfeature ngenes ngene numi numis umi umis counts genes pct percent percentage mt mito mitochondrial "
    "ribo ribosomal score scores doublet doublets dbl scrublet prb prob probability nsnp snp snps total log size "
    "sizefactor sizefactors pc pca umap tsne depth complexity phase cycle g2m pseudotime barcode barcodes cellid "
    "cellname finder fraction frac reads hashing confidence predictedscore entropy ncounts nreads hb offset weight "
    "cellcycle mapping lognormalized qc outlier filter passed keep droplet llr"
}
# What a person has one of: who is seen in several levels may be several persons of one name.
LASTING = {
    3.0: "genotype disease diseases diagnosis sex gender status group groups cohort arm casecontrol case cc phenotype "
    "knockout ko mutation mutant strain species organism race ethnicity ancestry diseasestate diseasestatus diseased "
    "affected health healthy healthstatus dx"
}
# Samples that are taken of a donor, whose names may be given anew in each: biopsy 1, 2 and 3 of everybody.
TAKEN = {3.0: "sample samples sampleid samplename specimen biosample biopsy aliquot visit"}
# Ids that a laboratory gives anew in every group of animals.
SERIAL = re.compile(r"(?i:(?:bio)?rep(?:licate)?|mouse|animal)?[ _.-]?[0-9]{1,2}(?:\.0)?")
CLUSTERS = {3.0: "cluster clusters leiden louvain seurat snn phenograph seuratclusters res"}
ROLES = {"donor": DONOR, "condition": CONDITION, "cell_type": CELL_TYPE, "sample": SAMPLE, "batch": BATCH}
ROLES |= {"trait": TRAIT, "time": TIME, "measured": MEASURED, "clusters": CLUSTERS, "lasting": LASTING}
ROLES |= {"taken": TAKEN}
WORDS = {
    role: {word: points for points, words in table.items() for word in words.split()} for role, table in ROLES.items()
}
# Levels that an experiment compares with, strongest first.
CONTROLS = (
    r"ctrl|ctl|control|controls|con|cntrl",
    r"healthy|normal|wt|wild ?type|vehicle|untreated|unstimulated|unstim|unexposed|mock|placebo|naive|sham|dmso|pbs|nt",
    r"non ?targeting|scramble|scrambled|reference|ref|none|baseline|base|resting|rest|uninfected|negative|neg|no|false",
    r"pre|before|young|d0|day ?0|day ?00|t0|0 ?h|0hr|0|0\.0|hc|hd|nc|uninjured|unaffected|never",
)
CELLS = re.compile(
    r"cell|cyte|phage|neuron|blast|glia|epithel|endothel|platelet|\bNK\b|\bDCs?\b|\bCD\d|\bp?DC\b|stroma|mono|tcell|bcell"
)


def points(name: str, role: str) -> float:
    """Return how much a column's name speaks for a role: 3 clearly, 2 and 1 less so, 0 not at all.

    Parameters
    ----------
    name : str
    role : str
        A key of `ROLES`.
    """
    words = WORDS[role]
    return max((words.get(piece, 0.0) for piece in pieces(name)), default=0.0)


def pieces(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case and neighbouring ones joined: ``Cell_Type``: cell, type, celltype."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower()
    words = [piece for piece in re.split(r"[^a-z0-9]+", spaced) if piece]
    bare = [word.rstrip("0123456789") or word for word in words]
    joined = [a + b for a, b in itertools.pairwise(bare)]
    whole = re.sub(r"[^a-z]", "", str(name).lower())
    return tuple(dict.fromkeys([*words, *bare, *joined, whole]))


def control(levels: tuple[str, ...]) -> int | None:
    """Return which level is like a control by its name, None where none is."""
    plain = [re.sub(r"[\s_.-]+", " ", level).strip().lower() for level in levels]
    for pattern in CONTROLS:
        whole = [i for i, level in enumerate(plain) if re.fullmatch(pattern, level)]
        part = [i for i, level in enumerate(plain) if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", level)]
        for found in (whole, part):
            if len(found) == 1:
                return found[0]
    return None


def named_like_cells(levels: tuple[str, ...]) -> bool:
    """Tell whether the values read as cell types."""
    return sum(bool(CELLS.search(level)) for level in levels) * 2 >= len(levels) > 0
