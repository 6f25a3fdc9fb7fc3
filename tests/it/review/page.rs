//! The page in Chromium.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::browser::Browser;
use super::{catalogue, review, scanned, scene, twelve};

/// Waits for the first pictures.
fn open(browser: &mut Browser, page: &Path) {
    browser.open(page);
    browser.until("performance.getEntriesByName('pictures').length === 1");
}

fn name(browser: &mut Browser) -> String {
    let name = browser.text("name");
    name.split(' ').nth(1).unwrap().to_owned()
}

/// The rows of an exported file, without the times.
fn exported(browser: &mut Browser, folder: &Path) -> String {
    let file = folder.join("verdicts.csv");
    drop(fs::remove_file(&file));
    browser.download_to(folder);
    browser.key("e");
    let began = std::time::Instant::now();
    while !file.exists() {
        assert!(began.elapsed().as_secs() < 30, "no verdicts.csv");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fs::read_to_string(file).unwrap()
}

#[test]
fn candidates_are_judged_key_by_key_and_verdicts_survive() {
    let (folder, out) = twelve("ground");
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    assert_eq!(name(&mut browser), "1");
    browser.keys("aaru");
    assert_eq!(browser.text("counts"), "4 of 12 judged · 2 accepted · 1 rejected · 1 unsure");
    assert_eq!(name(&mut browser), "5");
    // Undone: the verdict goes, and its candidate is back.
    browser.key("z");
    assert_eq!(
        (name(&mut browser), browser.text("counts").as_str()),
        ("4".into(), "3 of 12 judged · 2 accepted · 1 rejected · 0 unsure")
    );
    // A note, with what CSV and HTML make of it; keys in the field are letters.
    browser.key("m");
    browser.keys("a, \"b\" <i>");
    browser.key("Enter");
    assert_eq!(browser.text("counts"), "3 of 12 judged · 2 accepted · 1 rejected · 0 unsure");
    browser.keys("u");
    // Back to the second: rejected after all; then the next without a verdict.
    browser.key("Home");
    browser.keys("jr");
    browser.key("n");
    assert_eq!(name(&mut browser), "5");
    browser.key("ArrowLeft");
    browser.key("x");
    browser.keys("u");
    browser.js("document.getElementById('reviewer').focus()");
    browser.keys("Ann");
    browser.key("Escape");
    let counts = "4 of 12 judged · 1 accepted · 2 rejected · 1 unsure";
    assert_eq!(browser.text("counts"), counts);
    browser.reload();
    assert_eq!((browser.text("counts").as_str(), name(&mut browser)), (counts, "5".into()));
    let csv = exported(&mut browser, folder.path());
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "id,verdict,reviewer,time,note");
    assert!(rows[1].starts_with("1,accept,Ann,20") && rows[2].starts_with("2,reject,Ann,20"), "{csv}");
    assert!(rows[4].starts_with("4,unsure,Ann,20") && rows[4].ends_with("Z,\"a, \"\"b\"\" <i>\""), "{csv}");
    assert!(rows.len() == 5 && browser.thrown.is_empty(), "{csv}{:?}", browser.thrown);

    // Another browser, which knows nothing, takes the file in, name and all.
    let Some(mut other) = Browser::start() else { return };
    open(&mut other, &out.join("review.html"));
    other.choose_file("#file", &folder.path().join("verdicts.csv"));
    other.until("document.getElementById('counts').textContent.startsWith('4 of 12')");
    assert_eq!(other.text("counts"), counts);
    assert_eq!(other.js("document.getElementById('reviewer').value"), "Ann");
    assert_eq!(exported(&mut other, folder.path()), csv);
}

#[test]
fn a_colleagues_verdicts_are_shown_beside_ones_own() {
    let (folder, out) = twelve("ground");
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    browser.js("rename('Ann')");
    browser.keys("aar");
    let file = folder.path().join("bob.csv");
    fs::write(
        &file,
        "id,verdict,reviewer,time,note\r\n1,accept,Bob,2026-01-01T00:00:00Z,\r\n2,Reject,Bob,2026-01-01T00:00:00Z,\"a dune,\r\nsurely\"\r\n\
         99,reject,Bob,,\r\n3,maybe,Bob,,\r\n3,accept,Ann,2020-01-01T00:00:00Z,old\r\n",
    )
    .unwrap();
    browser.choose_file("#file", &file);
    browser.until("document.getElementById('says').textContent !== ''");
    let said = browser.text("says");
    for part in
        ["2 lines of a colleague, who disagrees on 1", "1 older", "2 passed over (there is no candidate 99)"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(browser.text("counts"), "3 of 12 judged · 2 accepted · 1 rejected · 0 unsure");
    browser.js("$('by-verdict').value = 'split', choose()");
    assert_eq!((browser.text("shown").as_str(), name(&mut browser)), ("1 of 12 candidates", "2".into()));
    assert!(
        browser.text("others").contains("Bob: rejected, “a dune,\r\nsurely”"),
        "{}",
        browser.text("others")
    );
    browser.reload();
    browser.js("go(1)");
    assert!(browser.text("others").contains("Bob: rejected"));
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}

#[test]
fn a_catalogue_without_candidates_is_a_page_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    scene(&folder.path().join("ground.tif"), 200, 200, &[]);
    let out = scanned(folder.path(), "ground", (200, 200));
    assert!(review(&out, &[]).contains("0 of 0 candidates"));
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&out.join("review.html"));
    browser.keys("aruzxnjkoicvsgSF+-");
    assert_eq!(browser.text("shown"), "0 candidates");
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}

/// The place of a candidate's dot in the window.
fn on_map(browser: &mut Browser, id: u64) -> (f64, f64) {
    let place = browser.js(&format!(
        "(() => {{ const box = $('map').getBoundingClientRect(), at = map.at(byId.get({id})), fit = map.fit();
           return [box.left + fit.x(at[0]) + 1, box.top + fit.y(at[1]) + 1]; }})()"
    ));
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

#[test]
fn pictures_do_as_they_are_told() {
    let (_folder, out) = twelve("ground");
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    // The outline is as wide as the disc, a circle's diameter but for whole pixels.
    let path = browser.js("document.querySelector('#pictures .view .over').getBBox().width");
    let first = &catalogue(&out)[0];
    assert_eq!(path.as_f64().unwrap(), (first.col1_px - first.col0_px) as f64);
    let visible = "getComputedStyle(document.querySelector('#pictures svg')).display";
    assert_ne!(browser.js(visible), "none");
    browser.key("o");
    browser.until(&format!("{visible} === 'none'"));
    browser.key("o");
    // The ground's brightness and transparency at a place of the first picture.
    let level = "(() => { const c = document.querySelector('#pictures .view canvas'); \
                 return [...c.getContext('2d').getImageData(100, 64, 1, 1).data]; })()";
    let before = browser.js(level);
    browser.key("i");
    browser.until(&format!("{level}[0] === 255 - {}", before[0]));
    browser.keys("ic");
    browser.until("document.getElementById('contrast').textContent === '1.5'");
    let stretched = browser.js(level);
    assert!(
        stretched != before && stretched[0] == stretched[1] && stretched[1] == stretched[2],
        "{stretched}"
    );
    // The candidate is 60 px below the scene's edge, and the view reaches 64 px up.
    let nothing = level.replace("100, 64", "100, 0");
    assert_eq!((browser.js(&nothing)[3].clone(), before[3].clone()), (Value::from(0), Value::from(255)));
    browser.keys("ccc++");
    assert_eq!(browser.js("document.querySelector('#pictures .frame > div').style.transform"), "scale(2)");
    browser.keys("--vv");
    browser.until("document.querySelectorAll('#pictures figure').length === 1");
    browser.key("v");
    browser.until("document.querySelectorAll('#pictures figure').length === 2");
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}

#[test]
fn lists_maps_and_plots_do_as_they_are_told() {
    let (_folder, out) = twelve("ground");
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    // Sorted by diameter, largest first, then smallest first.
    browser.keys("ss");
    browser.key("Home");
    assert_eq!(name(&mut browser), "10");
    browser.key("S");
    browser.key("Home");
    assert_eq!(name(&mut browser), "3");
    // Filters by numbers, and by what was said.
    browser.key("f");
    browser.js("$('diameter-from').focus()");
    browser.keys("20");
    browser.key("Escape");
    assert_eq!(browser.text("shown"), "4 of 12 candidates");
    browser.keys("aa");
    browser.js("$('by-verdict').value = 'accept', choose()");
    assert_eq!(browser.text("shown"), "2 of 12 candidates");
    assert!(browser.text("plot-says").starts_with("2 accepted"));
    assert_eq!(browser.js("document.querySelectorAll('#plot .dot').length"), 2);
    browser.picture("filtered.png");
    browser.key("F");
    browser.until("document.getElementById('shown').textContent === '12 candidates'");
    browser.key("Escape");
    // A dot of the map, then a region of it.
    let (x, y) = on_map(&mut browser, 7);
    browser.click(x, y);
    assert_eq!(name(&mut browser), "7");
    let ((x0, y0), (x1, y1)) = (on_map(&mut browser, 4), on_map(&mut browser, 8));
    browser.drag((x0 + 4.0, y0 - 5.0), (x1 - 4.0, y1 + 5.0));
    assert_eq!(browser.text("shown"), "4 of 12 candidates", "numbers 4, 5, 7 and 8");
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}

#[test]
fn help_themes_and_fingers() {
    let (_folder, out) = twelve("ground");
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    browser.key("?");
    assert_eq!(browser.js("$('help').open"), true);
    let keys = browser.text("keys");
    for words in ["accept", "undo", "invert", "export verdicts.csv", "next unseen"] {
        assert!(keys.contains(words), "{words}");
    }
    // While it is open, keys judge nothing.
    browser.key("a");
    browser.key("Escape");
    assert_eq!(browser.js("[$('help').open, mine.size]"), serde_json::json!([false, 0]));
    let paper = "getComputedStyle(document.body).backgroundColor";
    browser.prefer("light");
    browser.until("document.documentElement.dataset.theme === 'light'");
    let light = browser.js(paper);
    browser.prefer("dark");
    browser.until("document.documentElement.dataset.theme === 'dark'");
    assert_ne!(browser.js(paper), light);
    // By key: dark, then light whatever the system likes, also the next time.
    browser.keys("tt");
    browser.reload();
    assert_eq!(browser.js(paper), light);
    for (width, height, picture) in [(1024, 768, "tablet.png"), (820, 1180, "upright.png")] {
        browser.size(width, height, true);
        browser.until("document.querySelector('#pictures canvas') !== null");
        let fits = "document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll('#verdict button, \
                    #pictures figure')].every((e) => { const b = e.getBoundingClientRect(); return b.right <= innerWidth + 1 && \
                    b.bottom <= innerHeight + 1; })";
        browser.until(fits);
        browser.picture(picture);
    }
    let middle = browser.js("(() => { const b = $('pictures').getBoundingClientRect(); return [b.left + b.width / 2, b.top + 60]; })()");
    let (x, y) = (middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap());
    browser.swipe((x + 80.0, y), (x - 80.0, y));
    assert_eq!(name(&mut browser), "2");
    browser.swipe((x - 80.0, y), (x + 80.0, y));
    assert_eq!(name(&mut browser), "1");
    browser.js("document.querySelector('#verdict .accept').click()");
    assert_eq!((name(&mut browser), browser.js("mine.size")), ("2".into(), Value::from(1)));
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}

#[test]
fn nothing_in_a_name_a_note_or_a_file_runs() {
    let attack =
        "</script><script>window.hacked = 1</script><img src=x onerror=\"window.hacked = 2\">'\"&{{nonce}}";
    let (folder, out) = twelve(attack);
    review(&out, &[]);
    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &out.join("review.html"));
    assert!(browser.text("place").starts_with(attack), "{}", browser.text("place"));
    let file = folder.path().join("<img src=x onerror=alert(1)>.csv");
    let cell = format!("\"{}\"", attack.replace('"', "\"\""));
    fs::write(&file, format!("id,verdict,reviewer,time,note\n1,accept,{cell},{cell},{cell}\n2,{cell},x,x,x\n{cell},accept,x,x,x\n"))
        .unwrap();
    browser.js("rename('Ann')");
    browser.choose_file("#file", &file);
    browser.until("$('says').textContent !== ''");
    browser.js(&format!("go(0), $('note').value = {}, note(), go(1), go(0), open", Value::from(attack)));
    assert!(browser.text("others").contains(attack));
    browser.reload();
    browser.js("go(0), map.draw(), choose()");
    let foreign = "[...document.querySelectorAll('img, iframe, script:not([nonce]):not([type])')].length";
    assert_eq!(browser.js(&format!("[window.hacked ?? null, {foreign}]")), serde_json::json!([null, 0]));
    // Were it to reach the page as markup all the same, the policy would keep it from running.
    browser.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 3\">')");
    browser.js("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.hacked = 4' }))");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(browser.js("window.hacked ?? null"), Value::Null);
}

#[test]
fn five_thousand_candidates_come_at_once_and_scroll() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, cols) = (3600, 3660);
    let disc = |k: usize| {
        (
            25.0 + 50.0 * (k / 72) as f64,
            65.0 + 50.0 * (k % 72) as f64,
            2.0 + 12.0 * (k as f64 / 5100.0).powi(3),
        )
    };
    scene(&folder.path().join("ground.tif"), rows, cols, &(0..5100).map(disc).collect::<Vec<_>>());
    let out = scanned(folder.path(), "ground", (rows, cols));
    let began = std::time::Instant::now();
    let said = review(&out, &[]);
    println!("{} in {:.1} s", said.trim().replace('\n', "; "), began.elapsed().as_secs_f64());
    assert!(
        said.contains("5000 of 5100 candidates") && said.contains("5000 outlines, 5000 of them"),
        "{said}"
    );
    let Some(mut browser) = Browser::start() else { return };
    let mut least = [f64::INFINITY; 2];
    for _ in 0..3 {
        open(&mut browser, &out.join("review.html"));
        let times = browser.js("['first-paint', 'pictures'].map((name) => performance.getEntriesByName(name)[0].startTime / 1000)");
        println!("first paint {times} s (and first pictures)");
        for (least, time) in least.iter_mut().zip(times.as_array().unwrap()) {
            *least = least.min(time.as_f64().unwrap());
        }
    }
    // The best of three, since whatever else the machine does is not the page's doing.
    assert!(least[0] < 1.0, "first paint after {} s", least[0]);
    let scroll = "(async () => { const box = $('list'), times = []; let last = performance.now();
        for (let k = 0; k < 120; k++) { box.scrollTop += k < 60 ? 90 : 5000; await new Promise(requestAnimationFrame);
          const now = performance.now(); times.push(now - last); last = now; }
        times.sort((a, b) => a - b); return [times[60], times[113], times[119], $('rows').children.length]; })()";
    let medians = [(); 3].map(|()| {
        browser.js("$('list').scrollTop = 0");
        let frames = browser.js(scroll);
        println!(
            "frames while scrolling, ms: median {}, 95 of 100 under {}, longest {}",
            frames[0], frames[1], frames[2]
        );
        assert!(frames[3].as_f64().unwrap() < 40.0, "as many rows as fit: {frames}");
        frames[0].as_f64().unwrap()
    });
    assert!(medians.iter().any(|median| *median < 50.0), "{medians:?}");
    let judged =
        "(() => { go(0); const began = performance.now(); for (let k = 0; k < 200; k++) judge('accept');
        return (performance.now() - began) / 200; })()";
    println!("a verdict takes {} ms", browser.js(judged));
    browser.key("End");
    browser.until("$('place').textContent.endsWith('5\u{202f}000 of 5\u{202f}000')");
    browser.until("document.querySelector('#pictures canvas') !== null");
    assert!(browser.text("counts").starts_with("200 of 5\u{202f}000 judged"));
    assert_eq!(browser.text("shown"), "5\u{202f}000 candidates, the first of 5\u{202f}100");
    browser.picture("five_thousand.png");
    assert!(browser.thrown.is_empty(), "{:?}", browser.thrown);
}
