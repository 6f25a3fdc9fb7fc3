"""Scenes and masks for training a screening network: so many pixels on a side made one, as `scan --screen` does.

    reduce.py BY OUT SCENE.tif...

A pixel is the mean of those that have data. Its mask, SCENE_gt.tif or SCENE_mask.tif beside the scene, says whether there is an
impact in it or beside it: of the smallest ones hardly a pixel would be left. Needs numpy and tifffile; 8-bit scenes.
"""
import os, sys
import numpy as np, tifffile

by, out = int(sys.argv[1]), sys.argv[2]
os.makedirs(out, exist_ok=True)


def blocks(picture):
    rows, cols = (-(-n // by) * by for n in picture.shape)
    whole = np.zeros((rows, cols), picture.dtype)
    whole[: picture.shape[0], : picture.shape[1]] = picture
    return whole.reshape(rows // by, by, cols // by, by)


for path in sys.argv[3:]:
    name = os.path.basename(path)[:-4]
    scene = blocks(tifffile.imread(path)).astype(np.uint32)
    sums, counts = scene.sum((1, 3)), (scene != 0).sum((1, 3))
    tifffile.imwrite(f"{out}/{name}.tif", ((sums + counts // 2) // np.maximum(counts, 1)).astype(np.uint8), rowsperstrip=64)
    mask = next(f"{path[:-4]}{end}.tif" for end in ("_gt", "_mask") if os.path.exists(f"{path[:-4]}{end}.tif"))
    impact = np.pad(blocks(tifffile.imread(mask)).max((1, 3)) != 0, 1)
    near = np.any([np.roll(impact, shift, (0, 1)) for shift in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))], 0)[1:-1, 1:-1]
    tifffile.imwrite(f"{out}/{name}_gt.tif", near.astype(np.uint8) * 255, rowsperstrip=64)
