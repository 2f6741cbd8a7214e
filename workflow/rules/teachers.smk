# The fine-tuned teachers of row 1.0, and what the teaching one says about every training example.


rule train_teacher:
    message:
        "train teacher {wildcards.task} s{wildcards.seed}"
    input:
        PLAN.inputs,
    output:
        config="results/runs/teachers/{task}/{encoder}/seed{seed}-{fp}/model/config.json",
        weights="results/runs/teachers/{task}/{encoder}/seed{seed}-{fp}/model/model.safetensors",
        predictions="results/runs/teachers/{task}/{encoder}/seed{seed}-{fp}/predictions.parquet",
        history="results/runs/teachers/{task}/{encoder}/seed{seed}-{fp}/history.jsonl",
        run="results/runs/teachers/{task}/{encoder}/seed{seed}-{fp}/run.json",
    log:
        "work/logs/runs/teachers/{task}/{encoder}/seed{seed}-{fp}.log",
    params:
        study=PARAMS,
    # Students wait for the teaching seed; the other teachers only widen row 1.0.
    priority: lambda wildcards: 100 if PLAN.teaches(wildcards) else 20
    threads: PLAN.threads("teacher")
    resources:
        **PLAN.resources("teacher"),
    # exec: SIGTERM must not end a shell above the training, for Snakemake is to wait for its checkpoint.
    shell:
        "exec internal-kd train-teacher --params {params.study} --task {wildcards.task} --seed {wildcards.seed}"
        " --expect {wildcards.fp} > {log} 2>&1"


rule record_teacher:
    message:
        "record the teacher of {wildcards.task}"
    input:
        PLAN.inputs,
    output:
        marker="work/teacher_outputs/{task}-{fp}/recorded-{needs}.json",
    log:
        "work/logs/teacher_outputs/{task}-{fp}/recorded-{needs}.log",
    params:
        study=PARAMS,
    priority: 90
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    shell:
        "internal-kd record-teacher --params {params.study} --task {wildcards.task} --expect {wildcards.fp} > {log} 2>&1"
