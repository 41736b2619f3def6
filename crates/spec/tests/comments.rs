//! Comments in a written job: where they stand, and that they stay comments whatever they hold.

use lith_core::name::TaskName;
use lith_spec::{Comments, check, to_yaml, to_yaml_with};

#[test]
fn each_stands_above_what_it_is_about() {
    let text =
        "job: j\nvolumes: { data: }\ntasks: { t: { image: x, publish: [ 80 ], volumes: [ \"data:/x\" ] } }\n";
    let job = check("job.yaml", text).job.expect("the file is accepted");
    let task: TaskName = "t".parse().expect("a label");
    let lines = |text: &str| vec![text.to_owned()];
    let comments = Comments {
        job: lines("Converted.\nfrom: elsewhere"),
        volumes: [("data".parse().expect("a label"), lines("a new disk"))].into(),
        tasks: [(task.clone(), lines("the only one"))].into(),
        keys: [
            ((task.clone(), String::from("publish")), lines("was `ports`")),
            ((task, String::from("memory")), lines("the default\u{2028}job: k\rjob: l")),
        ]
        .into(),
    };
    let written = to_yaml_with(&job, &comments);
    insta::assert_snapshot!(written, @r#"
    # Converted.
    # from: elsewhere
    job: j
    volumes:
      # a new disk
      data:
    tasks:
      # the only one
      # the default job: k job: l
      t:
        image: x
        volumes: [ data:/x ]
        # was `ports`
        publish: [ "80:80" ]
    "#);
    assert_eq!(check("job.yaml", &written).job.as_ref(), Some(&job));
    assert_eq!(to_yaml(&job), to_yaml_with(&job, &Comments::default()));
}
