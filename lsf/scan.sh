#!/usr/bin/env bash
# Scans a scene list as a job array: each task takes the shard of its index. A merge waits for all of them.
#   export SCENES=scenes.csv OUT=found
#   bsub -J "marscan[1-64]" < lsf/scan.sh
#   bsub -w 'done("marscan")' < lsf/merge.sh
# Told that its time is nearly up, a task keeps what it has and exits with 75; requeued, it goes on from there.
#BSUB -J "marscan[1-64]"
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -W 4:00
#BSUB -wa USR1
#BSUB -wt 2
#BSUB -r
#BSUB -Q 75
#BSUB -o marscan-%J_%I.log
exec marscan scan --scenes "$SCENES" --out "$OUT" --threads "${LSB_DJOB_NUMPROC:-1}" $FLAGS
