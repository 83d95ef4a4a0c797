//! Random histories: people label, review, comment, close and push in any order, runs end, and
//! what is decided is applied as the platform applies it. Whatever the order, the promises hold.

mod model;

use domain::decision::ReviewVerdict;
use proptest::prelude::*;

use model::{Model, Who};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Label {
        thread: usize,
        label: usize,
        who: Who,
    },
    Unlabel {
        thread: usize,
        label: usize,
        who: Who,
    },
    Comment {
        thread: usize,
        text: usize,
        who: Who,
    },
    Review {
        pull: usize,
        verdict: ReviewVerdict,
        who: Who,
        stale: bool,
    },
    Dismiss {
        pull: usize,
    },
    Push {
        pull: usize,
    },
    Close {
        thread: usize,
        merged: bool,
    },
    Reopen {
        thread: usize,
    },
    /// The run in front of an issue is over.
    RunEnds {
        issue: usize,
        published: bool,
    },
    /// Effects reach the code host: labels that were decided on are taken off.
    EffectsDone,
    /// The last event is delivered once more.
    Redelivered,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        4 => Just(Who::Writer),
        5 => Just(Who::Maintainer),
        1 => Just(Who::Triager),
        1 => Just(Who::Reader),
        1 => Just(Who::Unknown),
        1 => Just(Who::Bot),
        1 => Just(Who::ListedBot),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        Just(ReviewVerdict::Approved),
        Just(ReviewVerdict::ChangesRequested),
        Just(ReviewVerdict::Commented)
    ];
    prop_oneof![
        8 => (any::<usize>(), any::<usize>(), who()).prop_map(|(thread, label, who)| Step::Label { thread, label, who }),
        3 => (any::<usize>(), any::<usize>(), who()).prop_map(|(thread, label, who)| Step::Unlabel { thread, label, who }),
        5 => (any::<usize>(), any::<usize>(), who()).prop_map(|(thread, text, who)| Step::Comment { thread, text, who }),
        8 => (any::<usize>(), verdict, who(), proptest::bool::weighted(0.2)).prop_map(|(pull, verdict, who, stale)| Step::Review { pull, verdict, who, stale }),
        1 => any::<usize>().prop_map(|pull| Step::Dismiss { pull }),
        2 => any::<usize>().prop_map(|pull| Step::Push { pull }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(thread, merged)| Step::Close { thread, merged }),
        1 => any::<usize>().prop_map(|thread| Step::Reopen { thread }),
        8 => (any::<usize>(), proptest::bool::weighted(0.8)).prop_map(|(issue, published)| Step::RunEnds { issue, published }),
        4 => Just(Step::EffectsDone),
        2 => Just(Step::Redelivered),
    ]
}

fn walk(steps: Vec<Step>) -> Model {
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Label { thread, label, who } => model.label(thread, label, who),
            Step::Unlabel { thread, label, who } => model.unlabel(thread, label, who),
            Step::Comment { thread, text, who } => model.comment(thread, text, who),
            Step::Review { pull, verdict, who, stale } => model.review(pull, verdict, who, stale),
            Step::Dismiss { pull } => model.dismiss(pull),
            Step::Push { pull } => model.push(pull),
            Step::Close { thread, merged } => model.close(thread, merged),
            Step::Reopen { thread } => model.reopen(thread),
            Step::RunEnds { issue, published } => model.run_ends(issue, published),
            Step::EffectsDone => model.effects_done(),
            Step::Redelivered => model.redelivered(),
        }
        model.check();
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// At most one run in front of an issue and one behind it, nothing starts without the right,
    /// no approval stands for another head, and every outcome says why.
    #[test]
    fn any_interleaving_keeps_the_promises(steps in proptest::collection::vec(step(), 1..120)) {
        walk(steps);
    }
}

/// The random histories would be worth nothing if nothing happened in them.
#[test]
fn histories_reach_everything() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let histories = proptest::collection::vec(step(), 100..120);
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for _ in 0..30 {
        let model = walk(histories.new_tree(&mut runner).expect("a history").current());
        for kind in model.decisions {
            *seen.entry(kind).or_default() += 1;
        }
    }
    for kind in [
        "start",
        "revise",
        "review",
        "discuss",
        "behind",
        "superseded",
        "preview",
        "approve",
        "withdraw_approval",
        "record_end",
        "cancel",
        "end_discussion",
        "keep_labels",
        "note_parameter",
        "answer",
        "reject",
        "ignore",
    ] {
        assert!(seen.get(kind).is_some_and(|times| *times > 2), "{kind}: {seen:?}");
    }
}
