# Runs: a teacher is a run that others listen to. Which of three rules makes a run follows from its method.
#
# A run's folder appears at once and complete, so run.json stands for all of it: of thousands of runs, several files each
# would be a tenth of the planning time. exec: SIGTERM must not end a shell above the training, because Snakemake is to
# wait for its checkpoint.


localrules:
    initialize_student,


rule train_teacher:
    message:
        "train {wildcards.task} {wildcards.method} {wildcards.variant} s{wildcards.seed}"
    wildcard_constraints:
        method=PLAN.methods_of("train_teacher"),
    input:
        PLAN.inputs,
    output:
        run="results/runs/{task}/{method}/{variant}/seed{seed}-{fp}/run.json",
    log:
        "work/logs/runs/{task}/{method}/{variant}/seed{seed}-{fp}.log",
    params:
        study=PARAMS,
    priority: PLAN.priority
    threads: PLAN.threads("teacher")
    resources:
        **PLAN.resources("teacher"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


rule record_answers:
    message:
        "record a teacher's answers about {wildcards.task}"
    input:
        PLAN.inputs,
    output:
        manifest="work/answers/{task}-{fp}/{needs}/manifest.json",
    log:
        "work/logs/answers/{task}-{fp}/{needs}.log",
    params:
        study=PARAMS,
    priority: 90
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


rule initialize_student:
    message:
        "first weights of {wildcards.shape} from {wildcards.encoder}"
    input:
        PLAN.inputs,
    output:
        manifest="work/initial/{encoder}-{shape}-{fp}/manifest.json",
    log:
        "work/logs/initial/{encoder}-{shape}-{fp}.log",
    params:
        study=PARAMS,
    priority: 80
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


# Students by gold labels, or by their teacher's outputs.
rule distill_labels:
    message:
        "train {wildcards.task} {wildcards.method} {wildcards.variant} s{wildcards.seed}"
    wildcard_constraints:
        method=PLAN.methods_of("distill_labels"),
    input:
        PLAN.inputs,
    output:
        run="results/runs/{task}/{method}/{variant}/seed{seed}-{fp}/run.json",
    log:
        "work/logs/runs/{task}/{method}/{variant}/seed{seed}-{fp}.log",
    params:
        study=PARAMS,
    priority: PLAN.priority
    threads: PLAN.threads("student")
    resources:
        **PLAN.resources("student"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


# Students that match their teacher's attention, hidden states or other internals.
rule distill_internals:
    message:
        "train {wildcards.task} {wildcards.method} {wildcards.variant} s{wildcards.seed}"
    wildcard_constraints:
        method=PLAN.methods_of("distill_internals"),
    input:
        PLAN.inputs,
    output:
        run="results/runs/{task}/{method}/{variant}/seed{seed}-{fp}/run.json",
    log:
        "work/logs/runs/{task}/{method}/{variant}/seed{seed}-{fp}.log",
    params:
        study=PARAMS,
    priority: PLAN.priority
    threads: PLAN.threads("student")
    resources:
        **PLAN.resources("student"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"
