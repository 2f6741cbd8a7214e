# Students: their first weights, and one training per task, depth, method, training-set size and seed.


localrules:
    initialize_student,


rule initialize_student:
    message:
        "initialise a student of {wildcards.depth} layers from {wildcards.encoder}"
    input:
        PLAN.inputs,
    output:
        manifest="work/initial/{encoder}-L{depth}-{fp}/manifest.json",
    log:
        "work/logs/initial/{encoder}-L{depth}-{fp}.log",
    params:
        study=PARAMS,
        # Many students may share these weights; the options name one of them.
        student=PLAN.coordinates,
    priority: 80
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd initialize-student --params {params.study} {params.student} --expect {wildcards.fp} > {log} 2>&1"


rule train_student:
    message:
        "train {wildcards.task} L{wildcards.depth} {wildcards.method} n{wildcards.examples} s{wildcards.seed}"
    input:
        PLAN.inputs,
    # The folder appears at once, whole: run.json stands for all of it. Of thousands of students three files each are a
    # tenth of the planning time.
    output:
        run="results/runs/students/{task}/{encoder}/L{depth}/{method}/n{examples}/seed{seed}-{fp}/run.json",
    log:
        "work/logs/runs/students/{task}/{encoder}/L{depth}/{method}/n{examples}/seed{seed}-{fp}.log",
    params:
        study=PARAMS,
    priority: 50
    threads: PLAN.threads("student")
    resources:
        **PLAN.resources("student"),
    # exec: SIGTERM must not end a shell above the training, for Snakemake is to wait for its checkpoint.
    shell:
        "exec internal-kd train-student --params {params.study} --task {wildcards.task} --depth {wildcards.depth}"
        " --method {wildcards.method} --examples {wildcards.examples} --seed {wildcards.seed} --expect {wildcards.fp} > {log} 2>&1"
