//! Settings of a variant: bounds beside a policy are those of the policy, in whatever order the keys stand, and are
//! checked.

use std::path::Path;

use modm::scenario::{Override, Source};

const SCENARIO: &str = r#"
name = "bounds"
[trace.synthetic]
requests = 10
arrivals = { process = "poisson", rate_per_min = 10 }
[system]
bounds = [[0.25, 5]]
[[variant]]
name = "default"
set = { "system.policy" = "pinecone" }
[[variant]]
name = "strict"
set = { "system.policy" = "pinecone", "system.bounds" = [[0.95, 0]] }
[[variant]]
name = "table"
set = { system = { policy = "pinecone", bounds = [[0.95, 0]] } }
[[variant]]
name = "nonsense"
set = { "system.policy" = "pinecone", "system.bounds" = [[0.95, 50]] }
"#;

#[test]
fn a_variant_keeps_the_bounds_that_it_sets_with_its_policy() {
    let source = Source::new(Path::new("scenario.toml"), SCENARIO.to_owned()).expect("a scenario");
    let base = source.scenario(&[]).expect("a scenario");
    let bounds = |name: &str| {
        let variant = base.variant.iter().find(|variant| variant.name == name).expect("a variant");
        source.scenario(&Source::variant_overrides(variant)).map(|scenario| scenario.bounds().to_vec())
    };
    assert_eq!(bounds("strict"), Ok(vec![(0.95, 0)]));
    assert_eq!(bounds("table"), Ok(vec![(0.95, 0)]));
    // Bounds of another system are not those of this one.
    assert!(bounds("default").is_ok_and(|bounds| bounds.len() == 1 && bounds != [(0.25, 5)]));
    let refused = bounds("nonsense").expect_err("more steps than there are").to_string();
    assert!(refused.contains("expected skipped steps from 0 to 49"), "{refused}");
}

#[test]
fn flags_have_no_order_either() {
    let source = Source::new(Path::new("scenario.toml"), SCENARIO.to_owned()).expect("a scenario");
    let set = |text: &str| Override::parse(text).expect("a key and a value");
    let sets = [set("system.bounds=[[0.95, 0]]"), set("system.policy=pinecone")];
    assert_eq!(*source.scenario(&sets).expect("a scenario").bounds(), [(0.95, 0)]);
}
