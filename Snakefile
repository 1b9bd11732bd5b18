# Front door. `include` drops the included file's default target, hence the rule below.


include: "workflow/Snakefile"


rule default:
    default_target: True
    input:
        rules.all.input,
