"""Columns as public data sets and common programs have them, on made cells: what `mlmgen init` takes for what."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from mlmgen.proposal.proposal import propose

DONORS, EACH, GENES = 12, 80, 60
TYPES = np.array(["B cell", "CD4 T cell", "Monocyte", "NK", "DC"])
SHORT = np.array(["Ex", "In", "Ast", "Oli", "Mic"])


class Cells:
    """Cells of 12 donors, half of them cases, in two samples each; columns are made of them."""

    def __init__(self):
        self.rng = np.random.default_rng(5)
        self.n = DONORS * EACH
        self.donor = np.repeat(np.arange(DONORS), EACH)
        self.sample = np.tile(np.repeat([0, 1], EACH // 2), DONORS)
        self.case = (self.donor < DONORS // 2).astype(int)
        self.type = self.rng.integers(0, len(TYPES), self.n)
        self.finer = 2 * self.type + self.rng.integers(0, 2, self.n)

    def donors(self, text: str) -> list[str]:
        return [text.format(d) for d in self.donor]

    def samples(self, text: str, names=("a", "b")) -> list[str]:
        return [text.format(d, names[s]) for d, s in zip(self.donor, self.sample, strict=True)]

    def of(self, code: np.ndarray, *levels: str) -> np.ndarray:
        return np.array(levels)[code % len(levels)]

    def subtypes(self, names=TYPES, text: str = "{}.{}") -> np.ndarray:
        return np.array([text.format(name, i) for name in names for i in range(2)])[self.finer]

    def qc(self, *names: str) -> dict[str, np.ndarray]:
        return {name: self.rng.integers(300, 9000, self.n) for name in names}

    def scores(self, *names: str) -> dict[str, np.ndarray]:
        return {name: self.rng.random(self.n) for name in names}

    def counts(self) -> np.ndarray:
        rng = np.random.default_rng(0)
        means = rng.gamma(0.5, 4.0, size=(len(TYPES), GENES))
        own = rng.lognormal(0.0, 0.3, size=(DONORS, GENES))
        return rng.poisson(means[self.type] * own[self.donor]).astype(np.int32)


C = Cells()
PHASES = C.rng.choice(["G1", "S", "G2M"], C.n)
# Columns of obs; the donor; conditions and cell types that would be right; the formula with the first of them.
STUDIES = {
    "pertpy's kang": (
        {
            **C.qc("nCount_RNA", "nFeature_RNA"),
            **C.scores("tsne1", "tsne2"),
            "label": C.of(C.sample, "ctrl", "stim"),
            "cluster": C.finer,
            "cell_type": TYPES[C.type],
            "replicate": C.donors("patient_10{}"),
            "seurat_clusters": pd.Categorical(C.finer.astype(str)),
        },
        ("replicate",),
        ("label",),
        ("cell_type",),
        "~ label + (1 | replicate) + (1 | replicate:label)",
    ),
    "muscat's kang": (
        {
            "ind": C.donors("10{}"),
            "stim": C.of(C.sample, "ctrl", "stim"),
            "cluster": C.type,
            "cell": TYPES[C.type],
            "multiplets": C.rng.choice(["singlet", "doublet", "ambs"], C.n, p=[0.9, 0.07, 0.03]),
        },
        ("ind",),
        ("stim",),
        ("cell",),
        "~ stim + (1 | ind) + (1 | ind:stim)",
    ),
    "CELLxGENE": (
        {
            "assay_ontology_term_id": "EFO:1",
            "cell_type_ontology_term_id": C.of(C.type, *"abcde"),
            "disease_ontology_term_id": C.of(C.case, "PATO:0000461", "MONDO:0100096"),
            "sex_ontology_term_id": C.of(C.donor, "PATO:1", "PATO:2"),
            "donor_id": C.donors("H{}"),
            "suspension_type": "cell",
            "is_primary_data": True,
            "cell_type": TYPES[C.type],
            "disease": C.of(C.case, "normal", "COVID-19"),
            "sex": C.of(C.donor, "male", "female"),
            "self_reported_ethnicity": C.of(C.donor, "unknown", "unknown", "European"),
            "development_stage": C.of(C.donor, "20-year-old stage", "30-year-old stage", "40-year-old stage"),
            "author_cell_type": C.subtypes(),
        },
        ("donor_id",),
        ("disease",),
        ("cell_type",),
        "~ disease + (1 | donor_id)",
    ),
    "Perez 2022": (
        {
            "batch_cov": C.of(C.donor + C.sample, "dmx_1", "dmx_2", "dmx_3", "dmx_4"),
            "ind_cov": C.donors("{0}_{0}"),
            "Processing_Cohort": C.of(C.donor, "4.0", "3.0"),
            "louvain": C.finer.astype(str),
            "cg_cov": C.of(C.type, "B", "T4", "cM", "NK", "cDC"),
            "ct_cov": C.subtypes(),
            "ind_cov_batch_cov": C.samples("{0}_{0}:dmx_{1}"),
            "Age": 20 + 3 * C.donor,
            "Sex": C.of(C.donor, "Male", "Female", "Female", "Female"),
            "pop_cov": C.of(C.donor, "European", "Asian"),
            "Status": C.of(C.case, "Healthy", "Managed"),
            "SLE_status": C.of(C.case, "Healthy", "SLE"),
        },
        ("ind_cov",),
        ("Status", "SLE_status"),
        ("cg_cov", "ct_cov"),
        "~ Status + (1 | ind_cov)",
    ),
    "Stephenson 2021": (
        {
            "sample_id": C.donors("CV{}"),
            **C.qc("n_genes", "n_genes_by_counts", "total_counts"),
            **C.scores("pct_counts_mt"),
            "full_clustering": C.subtypes(),
            "initial_clustering": TYPES[C.type],
            "Resample": "Initial",
            "Collection_Day": C.of(C.donor, "D0", "D0", "D9"),
            "Sex": C.of(C.donor, "F", "M"),
            "Swab_result": C.of(C.case, "Negative", "Positive"),
            "Status": C.of(C.case, "Healthy", "Covid"),
            "Smoker": C.of(C.donor, "Ex", "Non", "Non", "Non", "Non"),
            "Site": C.of(C.donor, "Ncl", "Cambridge", "Sanger"),
            "time_after_LPS": "nan",
            "patient_id": C.donors("AP{}"),
        },
        ("patient_id", "sample_id"),
        ("Status", "Swab_result"),
        ("initial_clustering", "full_clustering"),
        "~ Status + (1 | patient_id)",
    ),
    "Velmeshev 2019": (
        {
            "cluster": C.of(C.type, "L2/3", "AST-PP", "OPC", "Microglia", "IN-VIP"),
            "sample": C.samples("50{}_{}", ("BA24", "BA9")),
            "individual": 5000 + C.donor,
            "region": C.of(C.sample, "ACC", "PFC"),
            "age": 8 + C.donor,
            "sex": C.of(C.donor, "F", "M", "M", "M"),
            "diagnosis": C.of(C.case, "Control", "ASD"),
            "Capbatch": C.of(C.donor, "CB1", "CB2", "CB6"),
            "Seqbatch": C.of(C.donor, "SB1", "SB2"),
            "post-mortem interval (hours)": 3 + 1.5 * C.donor,
            "RNA Integrity Number": 7 + 0.1 * C.donor,
            **C.qc("genes", "UMIs"),
            **C.scores("RNA mitochondr. percent"),
        },
        ("individual",),
        ("diagnosis",),
        ("cluster",),
        "~ diagnosis + (1 | individual/sample)",
    ),
    "Smillie 2019": (
        {
            "Cluster": TYPES[C.type],
            **C.qc("nGene", "nUMI"),
            "Subject": C.donors("N{}"),
            "Health": np.where(C.case == 0, "Healthy", C.of(C.sample, "Non-inflamed", "Inflamed")),
            "Location": C.rng.choice(["Epi", "LP"], C.n),
            "Sample": C.samples("N{}.{}"),
        },
        ("Subject",),
        ("Health",),
        ("Cluster",),
        "~ Health + (1 | Subject) + (1 | Subject:Health)",
    ),
    "Adams 2020": (
        {
            "CellBarcode_Identity": [f"b{i}" for i in range(C.n)],
            **C.qc("nUMI", "nGene"),
            "CellType_Category": C.of(C.type, "Lymphoid", "Lymphoid", "Myeloid", "Lymphoid", "Myeloid"),
            "Manuscript_Identity": TYPES[C.type],
            "Subclass_Cell_Identity": TYPES[C.type],
            "Disease_Identity": C.of(C.case, "Control", "IPF"),
            "Subject_Identity": C.donors("{:03d}C"),
            "Library_Identity": C.samples("{:03d}C-{}"),
        },
        ("Subject_Identity",),
        ("Disease_Identity",),
        ("CellType_Category", "Manuscript_Identity", "Subclass_Cell_Identity"),
        "~ Disease_Identity + (1 | Subject_Identity/Library_Identity)",
    ),
    "Mathys 2019": (
        {
            "TAG": [f"b{i}" for i in range(C.n)],
            "projid": 20000 + 37 * C.donor,
            **C.scores("tsne1", "tsne2"),
            "pre.cluster": C.finer,
            "broad.cell.type": SHORT[C.type],
            "Subcluster": C.subtypes(SHORT, "{}{}"),
            "msex": C.donor % 2,
            "age_death": 75 + 0.7 * C.donor,
            "pathology.group": C.of(C.case, "no-pathology", "early-pathology"),
        },
        ("projid",),
        ("pathology.group",),
        ("broad.cell.type", "Subcluster"),
        "~ pathology.group + (1 | projid)",
    ),
    "Seurat without annotation": (
        {
            "orig.ident": C.donors("S{}"),
            **C.qc("nCount_RNA", "nFeature_RNA"),
            **C.scores("percent.mt", "S.Score", "G2M.Score"),
            "RNA_snn_res.0.5": pd.Categorical(C.type.astype(str)),
            "seurat_clusters": pd.Categorical(C.type.astype(str)),
            "Phase": PHASES,
            "group": C.of(C.case, "ctl", "trt"),
            "DF.classifications": C.rng.choice(["Singlet", "Doublet"], C.n, p=[0.95, 0.05]),
        },
        ("orig.ident",),
        ("group",),
        ("seurat_clusters", "RNA_snn_res.0.5"),
        "~ group + (1 | orig.ident)",
    ),
    "mice": (
        {
            "mouse_id": C.donors("m{}"),
            "trt": C.of(C.case, "PBS", "LPS"),
            "celltype": TYPES[C.type],
            "sex": C.of(C.donor, "m", "f"),
            "cage": C.of(C.donor, "c1", "c2", "c3", "c4"),
            "batch": C.of(C.donor, "b1", "b2"),
            "leiden": pd.Categorical(C.type.astype(str)),
        },
        ("mouse_id",),
        ("trt",),
        ("celltype",),
        "~ trt + (1 | mouse_id)",
    ),
    "before and after": (
        {
            "PatientID": C.donors("P{}"),
            "Timepoint": C.of(C.sample, "pre", "post"),
            "Response": C.of(C.case, "NR", "R"),
            "SampleID": C.samples("P{}_{}"),
            "cell_type": TYPES[C.type],
            "cohort": C.of(C.donor, "a", "b"),
        },
        ("PatientID",),
        ("Timepoint",),
        ("cell_type",),
        "~ Timepoint + (1 | PatientID) + (1 | PatientID:Timepoint)",
    ),
    "hashed": (
        {
            "MULTI_ID": C.donors("HTO{}"),
            "hash.ID": C.donors("HTO{}"),
            "genotype": C.of(C.case, "WT", "KO"),
            "CellType": TYPES[C.type],
            "lane": C.rng.choice(["l1", "l2"], C.n),
            **C.qc("nCount_HTO"),
            **C.scores("HTO_margin"),
        },
        ("MULTI_ID", "hash.ID"),
        ("genotype",),
        ("CellType",),
        "~ genotype + (1 | MULTI_ID)",
    ),
    "vireo and Azimuth": (
        {
            "donor_id": C.donors("donor{}"),
            **C.scores("prob_max", "prob_doublet", "predicted.celltype.l1.score"),
            **C.qc("n_vars"),
            "best_singlet": C.donors("donor{}"),
            "pool": C.of(C.donor, "p1", "p2", "p3"),
            "condition": C.of(C.sample, "unstim", "LPS"),
            "predicted.celltype.l1": TYPES[C.type],
            "predicted.celltype.l2": C.subtypes(),
        },
        ("donor_id", "best_singlet"),
        ("condition",),
        ("predicted.celltype.l1", "predicted.celltype.l2"),
        "~ condition + (1 | donor_id) + (1 | donor_id:condition)",
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_columns_of_public_data_sets(name: str, tmp_path: Path):
    columns, donors, conditions, types, formula = STUDIES[name]
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(C.n)])
    anndata.AnnData(C.counts(), obs=obs).write_h5ad(tmp_path / "a.h5ad")
    found = propose(str(tmp_path / "a.h5ad"), {})
    assert found.roles.donor in donors
    assert found.roles.condition in conditions
    assert found.roles.cell_type in types
    assert found.structure.formula == formula
