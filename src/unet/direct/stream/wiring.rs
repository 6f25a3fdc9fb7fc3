//! The network as nodes in the order of the work, and which pixels of each are wanted.

use std::ops::Range;

/// What a node does; sources are numbers of earlier nodes.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// The picture.
    Input,
    /// The largest of each 2x2.
    Halve { of: usize },
    /// Unit `unit` of the network, of its own level and, `below`, of the one below it, doubled.
    Conv { unit: usize, same: usize, below: Option<usize> },
}

/// One picture inside the network.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub work: Work,
    /// 0 is the finest.
    pub level: usize,
    pub channels: usize,
    /// How many of its rows and columns are computed together.
    pub groups: Groups,
}

/// Rows, or columns, that are computed together.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// How many.
    pub size: i64,
    /// The first of one group.
    pub first: i64,
}

impl Groups {
    const SINGLE: Self = Self { size: 1, first: 0 };

    /// The first of `at`'s group.
    fn floor(self, at: i64) -> i64 {
        (at - self.first).div_euclid(self.size) * self.size + self.first
    }

    /// From the first of `span`'s first group to the last of its last one.
    fn around(self, span: &Range<i64>) -> Range<i64> {
        self.floor(span.start)..self.floor(span.end + self.size - 1)
    }
}

/// The nodes of a network, the last one being the last block's answer; `groups` tells of a unit.
pub fn nodes(widths: &[usize], groups: impl Fn(usize) -> Groups) -> Vec<Node> {
    let mut nodes = vec![Node { work: Work::Input, level: 0, channels: 1, groups: Groups::SINGLE }];
    let mut unit = 0;
    let mut block = |nodes: &mut Vec<Node>, level: usize, same: usize, below: Option<usize>| {
        for (same, below) in [(same, below), (nodes.len(), None)] {
            let (work, channels) = (Work::Conv { unit, same, below }, widths[level]);
            nodes.push(Node { work, level, channels, groups: groups(unit) });
            unit += 1;
        }
    };
    let mut handed_over = Vec::new();
    for level in 0..widths.len() {
        if level > 0 {
            let (of, channels) = (nodes.len() - 1, widths[level - 1]);
            nodes.push(Node { work: Work::Halve { of }, level, channels, groups: Groups::SINGLE });
        }
        let input = nodes.len() - 1;
        block(&mut nodes, level, input, None);
        handed_over.push(nodes.len() - 1);
    }
    for level in (0..widths.len() - 1).rev() {
        let below = nodes.len() - 1;
        block(&mut nodes, level, handed_over[level], Some(below));
    }
    nodes
}

/// Columns, half-open; empty where nothing is wanted.
pub type Span = Range<i64>;

/// What is wanted of a node: rows, and of each its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub rows: Range<i64>,
    /// Of each row.
    pub spans: Vec<Span>,
}

impl Wanted {
    /// The columns of `row`.
    pub fn span(&self, row: i64) -> Span {
        if self.rows.contains(&row) { self.spans[(row - self.rows.start) as usize].clone() } else { 0..0 }
    }

    /// From the first column that any row wants to the last.
    pub fn cols(&self) -> Span {
        self.spans.iter().fold(0..0, |all, span| hull(&all, span))
    }

    /// Pixels.
    pub fn pixels(&self) -> i64 {
        self.spans.iter().map(|span| (span.end - span.start).max(0)).sum()
    }

    /// Makes room for more rows, of which nothing is wanted yet.
    fn grow(&mut self, rows: &Range<i64>) {
        let all = hull(&self.rows, rows);
        self.spans = all.clone().map(|row| self.span(row)).collect();
        self.rows = all;
    }

    fn add(&mut self, row: i64, span: &Span) {
        if self.rows.contains(&row) {
            let mine = &mut self.spans[(row - self.rows.start) as usize];
            *mine = hull(mine, span);
        }
    }

    /// Widens rows and columns to whole groups.
    fn round_out(&mut self, groups: Groups) {
        let rows = groups.around(&self.rows);
        let of_group = |first: i64| {
            let all = (first..first + groups.size).fold(0..0, |all, row| hull(&all, &self.span(row)));
            if all.is_empty() { 0..0 } else { groups.around(&all) }
        };
        let firsts = rows.clone().step_by(groups.size as usize);
        self.spans = firsts.flat_map(|first| vec![of_group(first); groups.size as usize]).collect();
        self.rows = rows;
    }

    /// Cuts off what lies outside of a picture of these sizes.
    fn clip(&mut self, rows: i64, cols: i64) {
        let kept = self.rows.start.max(0)..self.rows.end.min(rows);
        let cut = |row| {
            let span = self.span(row);
            span.start.max(0)..span.end.min(cols)
        };
        self.spans = kept.clone().map(cut).collect();
        self.rows = kept;
    }
}

/// The smallest span that holds both.
fn hull(a: &Span, b: &Span) -> Span {
    if a.is_empty() {
        b.clone()
    } else if b.is_empty() {
        a.clone()
    } else {
        a.start.min(b.start)..a.end.max(b.end)
    }
}

/// The node, rows and columns that `row` and `span` of a node are computed from.
pub fn needs(work: Work, row: i64, span: &Span) -> Vec<(usize, Range<i64>, Span)> {
    match work {
        Work::Input => Vec::new(),
        Work::Halve { of } => vec![(of, 2 * row..2 * row + 2, 2 * span.start..2 * span.end)],
        Work::Conv { same, below, .. } => {
            let around = (same, row - 1..row + 2, span.start - 1..span.end + 1);
            let coarse = |below| {
                (below, (row - 1) >> 1..((row + 1) >> 1) + 1, (span.start - 1) >> 1..(span.end >> 1) + 1)
            };
            std::iter::once(around).chain(below.map(coarse)).collect()
        }
    }
}

/// What is wanted of every node so that the last one gives `answer`. With an `edge`, the rows and columns of a
/// picture beyond which everything is zero on every level, nothing beyond it is wanted.
pub fn wanted(nodes: &[Node], answer: Wanted, edge: Option<(i64, i64)>) -> Vec<Wanted> {
    let none = Wanted { rows: 0..0, spans: Vec::new() };
    let mut all = vec![none; nodes.len()];
    if let Some(last) = all.last_mut() {
        *last = answer;
    }
    for (k, node) in nodes.iter().enumerate().rev() {
        all[k].round_out(node.groups);
        if let Some((rows, cols)) = edge {
            all[k].clip(rows >> node.level, cols >> node.level);
        }
        let (before, rest) = all.split_at_mut(k);
        let mine = &rest[0];
        let wants = |row: i64| needs(node.work, row, &mine.span(row));
        for (source, rows, _) in [mine.rows.start, mine.rows.end - 1].into_iter().flat_map(wants) {
            before[source].grow(&rows);
        }
        for row in mine.rows.clone().filter(|&row| !mine.span(row).is_empty()) {
            for (source, rows, span) in wants(row) {
                rows.for_each(|row| before[source].add(row, &span));
            }
        }
    }
    all
}

/// How far each node has come once the input is there up to row `input`.
fn reach(nodes: &[Node], wanted: &[Wanted], input: i64) -> Vec<i64> {
    let mut until: Vec<i64> = Vec::new();
    for (node, mine) in nodes.iter().zip(wanted) {
        let whole = |source: usize| until[source] == wanted[source].rows.end;
        let reached = match node.work {
            Work::Input => input,
            Work::Halve { of } if !whole(of) => until[of] >> 1,
            Work::Conv { same, below, .. } => {
                let same = if whole(same) { i64::MAX } else { until[same] - 1 };
                let below =
                    below.filter(|&below| !whole(below)).map_or(i64::MAX, |below| 2 * until[below] - 1);
                same.min(below)
            }
            Work::Halve { .. } => i64::MAX,
        };
        let complete = reached >= mine.rows.end;
        let reached = if complete { mine.rows.end } else { node.groups.floor(reached) };
        until.push(reached.max(mine.rows.start));
    }
    until
}

/// How far each node has come after each step, in which `rows` more rows of the input come.
pub fn steps(nodes: &[Node], wanted: &[Wanted], rows: i64) -> Vec<Vec<i64>> {
    let input = &wanted[0].rows;
    let ends = (input.start + rows..input.end).step_by(rows as usize).chain([input.end]);
    ends.map(|end| reach(nodes, wanted, end)).collect()
}

/// Rows that each node must keep: `steps` is how far it has come after each of them.
pub fn kept(nodes: &[Node], wanted: &[Wanted], steps: &[Vec<i64>]) -> Vec<usize> {
    let mut rows = vec![0; nodes.len()];
    let starts: Vec<i64> = wanted.iter().map(|node| node.rows.start).collect();
    for (before, after) in std::iter::once(&starts).chain(steps).zip(steps) {
        for (k, (node, &first)) in nodes.iter().zip(before).enumerate() {
            rows[k] = rows[k].max(after[k] - first);
            for (source, from, _) in needs(node.work, first, &(0..1)) {
                rows[source] = rows[source].max(after[source] - from.start.max(starts[source]));
            }
        }
    }
    rows.into_iter().map(|rows| rows as usize).collect()
}
