//! What becomes of `verdicts.csv`: a column of the catalogue, a comparison.

use std::fs;

use super::{catalogue, review, twelve};
use crate::files::{bytes, fail, succeed};

#[test]
fn verdicts_are_a_last_column_of_every_catalogue() {
    let (folder, out) = twelve("ground");
    let (out, file) = (out.to_str().unwrap(), folder.path().join("verdicts.csv"));
    let plain = String::from_utf8(bytes(format!("{out}/catalogue.csv"))).unwrap();
    fs::write(&file, "id,verdict,reviewer,time,note\n2,accept,Ann,t,\n12,REJECT,Ann,t,\"no, a dune\"\n3,,Ann,t,look again\n").unwrap();
    let flags = ["--verdicts", file.to_str().unwrap(), "--group-m", "100", "--gpkg"];
    succeed(&[&["merge", out], &flags[..]].concat());
    let judged = String::from_utf8(bytes(format!("{out}/catalogue.csv"))).unwrap();
    let said = |k: usize| ["verdict", "", "accept", "", "", "", "", "", "", "", "", "", "reject"][k];
    let group = |k: usize| if k == 0 { "group" } else { "" };
    let wanted = plain.lines().enumerate().map(|(k, line)| format!("{line},{},{}\n", group(k), said(k)));
    assert_eq!(judged, wanted.collect::<String>());
    let json: serde_json::Value = serde_json::from_slice(&bytes(format!("{out}/catalogue.geojson"))).unwrap();
    let of = |k: usize| &json["features"][k]["properties"]["verdict"];
    assert_eq!((of(1), of(2)), (&"accept".into(), &serde_json::Value::Null));
    let package = rusqlite::Connection::open(format!("{out}/catalogue.gpkg")).unwrap();
    let count = "SELECT count(*) FROM catalogue WHERE verdict = 'reject' AND id = 12 OR verdict = 'accept' AND id = 2";
    assert_eq!(package.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    // A catalogue with more columns is judged as the same one: its numbers are.
    review(std::path::Path::new(out), &[]);
    succeed(&["merge", out, "--verdicts", file.to_str().unwrap()]);
    fs::write(&file, "id,verdict\n13,accept\n").unwrap();
    let before = bytes(format!("{out}/catalogue.csv"));
    let (code, message) = fail(&["merge", out, "--verdicts", file.to_str().unwrap()]);
    assert!(code == 2 && message.contains("13, which is not in the catalogue"), "{message}");
    assert!(bytes(format!("{out}/catalogue.csv")) == before);
}

#[test]
fn verdicts_on_another_catalogue_are_refused() {
    let (folder, out) = twelve("ground");
    let (_other, elsewhere) = twelve("other");
    review(&elsewhere, &[]);
    fs::copy(elsewhere.join("review.html"), out.join("review.html")).unwrap();
    let file = folder.path().join("verdicts.csv");
    fs::write(&file, "id,verdict\n1,accept\n").unwrap();
    let (code, message) = fail(&["merge", out.to_str().unwrap(), "--verdicts", file.to_str().unwrap()]);
    assert!(code == 2 && message.contains("is of another catalogue"), "{message}");
    assert_eq!(catalogue(&out).len(), 12);
}

#[test]
fn two_reviewers_are_compared_with_kappa_and_every_disagreement() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("id,verdict,reviewer,time,note\n{text}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ann =
        file("ann.csv", "1,accept,Ann,,\n2,accept,Ann,,\n3,reject,Ann,,\n4,unsure,Ann,,\n5,reject,Ann,,\n");
    let bob = file(
        "bob.csv",
        "1,accept,Bob,,\n2,reject,Bob,,\"a\u{1b}[2J dune\"\n3,reject,Bob,,\n4,unsure,Bob,,\n9,accept,Bob,,\n",
    );
    let agreed = folder.path().join("agreed.csv");
    let printed = succeed(&["review", "--compare", &ann, &bob, "--agreed", agreed.to_str().unwrap()]);
    // p = 3/4; e = (2 * 1 + 1 * 2 + 1 * 1) / 16.
    let kappa = (0.75 - 5.0 / 16.0) / (1.0 - 5.0 / 16.0);
    for part in [
        "judged by both: 4; by A alone 1, by B alone 1",
        "the same: 3 (75.0 %)",
        &format!("Cohen's kappa: {kappa:.3}"),
        "no. 2: A accept, B reject (a [2J dune)",
        "wrote 5 verdicts",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains('\u{1b}'), "nothing from a file moves the cursor");
    let text = fs::read_to_string(&agreed).unwrap();
    assert_eq!(
        text,
        "id,verdict,reviewer,time,note\n1,accept,Ann and Bob,,\n3,reject,Ann and Bob,,\n4,unsure,Ann and Bob,,\n\
         5,reject,Ann,,\n9,accept,Bob,,\n"
    );
    for wrong in [&["review"][..], &["review", "--compare", &ann], &["review", "x", "--compare", &ann, &bob]]
    {
        assert_eq!(fail(wrong).0, 2, "{wrong:?}");
    }
}
