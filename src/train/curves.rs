//! The loss curves of a run: `curves.svg` and `curves.png`.

use anyhow::Result;

use super::{History, TrainJob};
use crate::config::LossKind;
use crate::picture::plot::{Axis, Colour, Corner, Figure, Item};

/// From this ratio of the highest to the lowest loss on, the axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 10.0;

/// Draws both losses over the epochs, the best epoch, and where overfitting starts.
pub(super) fn draw_curves(job: &TrainJob, history: &History) -> Result<()> {
    figure(&job.settings.name, job.settings.train.loss, history).save(&job.out.join("curves"))
}

fn figure(name: &str, loss: LossKind, history: &History) -> Figure {
    let line = |loss: &dyn Fn(&super::Epoch) -> f64| -> Vec<(f64, f64)> {
        history.epochs.iter().map(|epoch| (epoch.epoch as f64, loss(epoch))).collect()
    };
    let trained = line(&|epoch| epoch.train_loss_without_penalty);
    let checked = line(&|epoch| f64::from(epoch.validation_loss));
    let losses = trained.iter().chain(&checked).map(|point| point.1).filter(|loss| loss.is_finite());
    let (low, high) = losses.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let log = low > 0.0 && high / low >= LOGARITHMIC_FROM;
    let range = if log { (low / 1.2, high * 1.2) } else { (0.0, high.max(1e-6) * 1.1) };
    let mut items = Vec::new();
    if let Some((from, to)) = history.overfitting() {
        let x = (from as f64, to as f64);
        items.push(Item::Span { label: "overfitting".into(), x, colour: Colour::Yellow });
    }
    let names = ["training", "validation"].map(|which| {
        let kind = if which == "training" { loss } else { LossKind::Bce };
        format!("{which} ({})", in_words(kind))
    });
    for ((name, points), colour) in
        names.into_iter().zip([trained, checked]).zip([Colour::Blue, Colour::Vermilion])
    {
        items.push(Item::Line { name, points, colour, dashed: false });
    }
    if let Some(best) = history.best() {
        let x = best.epoch as f64;
        items.push(Item::Upright { label: format!("best: epoch {}", best.epoch), x });
        let points = vec![(x, f64::from(best.validation_loss), 0.0)];
        items.push(Item::Points { name: String::new(), points, colour: Colour::Vermilion });
    }
    let epochs = (0.0, history.epochs.len().max(2) as f64 * 1.02);
    Figure {
        title: format!("{name}: loss over epochs"),
        legend: Corner::UpperRight,
        x: Axis { label: "epoch".into(), range: epochs, log: false },
        y: Axis { label: "mean loss a pixel".into(), range, log },
        items,
    }
}

fn in_words(loss: LossKind) -> &'static str {
    match loss {
        LossKind::Bce => "cross-entropy",
        LossKind::BceJaccard => "cross-entropy + Jaccard",
        LossKind::Focal => "focal",
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::history;
    use super::*;

    #[test]
    fn the_best_epoch_is_marked_and_overfitting_shaded_in_both_formats() {
        let overfitted =
            history(&[(1.0, 0.9), (0.8, 0.05), (0.7, 0.06), (0.6, 0.06), (0.5, 0.08), (0.4, 0.09)]);
        let figure = figure("mine", LossKind::BceJaccard, &overfitted);
        assert!(figure.y.log);
        let svg = figure.svg().unwrap();
        for part in ["best: epoch 2", "overfitting", "training (cross-entropy + Jaccard)", "mine: loss over"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let picture = png::Decoder::new(std::io::Cursor::new(figure.png().unwrap())).read_info().unwrap();
        assert_eq!((picture.info().width, picture.info().height), (1440, 900));
    }

    #[test]
    fn a_first_epoch_and_a_loss_that_is_no_number_are_drawn_all_the_same() {
        for losses in [&[(0.5, 0.4)][..], &[(f64::NAN, f32::NAN)], &[(0.0, 0.0), (f64::INFINITY, 1.0)]] {
            let figure = figure("mine", LossKind::Bce, &history(losses));
            assert!(figure.svg().unwrap().contains("validation (cross-entropy)"));
            figure.png().unwrap();
        }
    }
}
