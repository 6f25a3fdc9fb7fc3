#!/usr/bin/env bash
# Scans a scene list as a job array; each task takes the shard of its index.
#   bsub -J "marscan[1-64]" lsf/scan.sh scenes.csv found
#   bsub -w "done(marscan)" marscan merge found
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -W 4:00
exec marscan scan --scenes "$1" --out "$2" --threads "${LSB_DJOB_NUMPROC:-1}" "${@:3}"
