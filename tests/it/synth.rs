//! Drawn scenes: the same whatever the blocks, their masks and tables in agreement, their borders zero.

use marscan::plan::SceneList;
use marscan::score::truth;
use marscan::synth::{Scene, SynthSpec, write};

const SPEC: SynthSpec = SynthSpec { rows: 700, cols: 600, impacts: 9, seed: 4 };

fn draw(block: usize) -> (Vec<u8>, Vec<u8>, u64) {
    let scene = Scene::new(&SPEC);
    let (rows, cols) = (SPEC.rows as usize, SPEC.cols as usize);
    let (mut picture, mut mask) = (vec![1; rows * cols], vec![1; rows * cols]);
    let mut valid = 0;
    for row0 in (0..rows).step_by(block) {
        let row1 = (row0 + block).min(rows);
        let part = row0 * cols..row1 * cols;
        valid += scene.rows(row0 as u64..row1 as u64, &mut picture[part.clone()], &mut mask[part]);
    }
    (picture, mask, valid)
}

#[test]
fn a_scene_is_the_same_whatever_the_blocks_and_its_border_is_zero() {
    let (picture, mask, valid) = draw(700);
    assert!(draw(1) == (picture.clone(), mask.clone(), valid));
    assert!(draw(97) == (picture.clone(), mask.clone(), valid));
    assert_eq!(picture.iter().filter(|v| **v != 0).count() as u64, valid);
    assert!(valid < SPEC.rows * SPEC.cols * 95 / 100);
    assert!(picture.iter().zip(&mask).all(|(v, m)| *m == 0 || *v != 0), "an impact on no-data");
}

#[test]
fn the_truth_table_is_what_the_mask_says() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(&SPEC, "s", folder.path(), true).unwrap();
    assert_eq!(written.truth.len(), 9);
    let mut table = truth::read(&folder.path().join("s_truth.csv")).unwrap().remove("s").unwrap();
    let mut mask = truth::from_mask(&folder.path().join("s_mask.tif")).unwrap();
    for list in [&mut table, &mut mask] {
        list.sort_by(|a, b| a.row.total_cmp(&b.row));
    }
    assert_eq!(table.len(), mask.len());
    for (a, b) in table.iter().zip(&mask) {
        assert!(
            (a.row - b.row).abs() < 0.01
                && (a.col - b.col).abs() < 0.01
                && (a.diam_px - b.diam_px).abs() < 0.01
        );
    }
}

#[test]
fn several_that_draw_into_one_folder_are_all_listed() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (10..30).map(|k| format!("s{k}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let spec = SynthSpec { rows: 40, cols: 40, impacts: 0, ..SPEC };
            let folder = folder.path();
            scope.spawn(move || write(&spec, name, folder, false).unwrap());
        }
    });
    let list = SceneList::read(&folder.path().join("scenes.csv")).unwrap();
    assert!(list.records.iter().map(|record| &record.file_name).eq(&names));
}
