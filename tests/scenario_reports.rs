//! Every way a scenario can be wrong has a report that names the place, the thing and the remedy.

use std::path::Path;

use emmy::scenario::format::Scenario;
use emmy::scenario::generate::population;
use emmy::scenario::read::{ReadError, Report, read, read_file, report};
use miette::{GraphicalReportHandler, GraphicalTheme};

const GOOD: &str = r#"(
    version: 1,
    name: "two bodies",
    gravity: (softening: 0.0),
    integrator: Leapfrog(dt: 0.01),
    until: Time(10),
    bodies: [
        (name: "sun", mass: 1.0, position: (0, 0, 0), velocity: (0, 0, 0)),
        (name: "earth", mass: 1e-3, position: [1, 0, 0], velocity: (0, 1, 0)),
    ],
    expect: [
        EnergyDrift(below: 1e-6),
        Position(of: "earth", at: 5.0, is: (1, 0, 0), within: 3),
    ],
)
"#;

fn shown(report: &Report) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(200);
    handler.render_report(&mut text, report).expect("a string takes anything");
    text
}

/// The report for the good file with one thing changed, as the user sees it.
fn report_of(right: &str, wrong: &str) -> String {
    assert!(GOOD.contains(right), "{right} is not in the file");
    match read("two.ron", &GOOD.replacen(right, wrong, 1), &[]) {
        Ok(_) => panic!("accepted: {wrong}"),
        Err(report) => shown(&report),
    }
}

#[track_caller]
fn assert_says(right: &str, wrong: &str, expected: &[&str]) {
    let report = report_of(right, wrong);
    for part in expected {
        assert!(report.contains(part), "{right} -> {wrong}: `{part}` is not in\n{report}");
    }
}

fn set(path: &str, value: &str) -> (String, String) {
    (path.into(), value.into())
}

#[test]
fn the_good_file_is_good() {
    let scenario = read("two.ron", GOOD, &[]).map_err(|report| shown(&report)).unwrap();

    assert_eq!((scenario.steps(), scenario.dt(), scenario.count()), (1000, 0.01, 2));
    assert_eq!((scenario.step_of(Some(5.0)), scenario.step_of(None)), (500, 1000));
    assert_eq!((scenario.integrator_name(), scenario.gravitational_constant()), ("leapfrog", 1.0));
}

#[test]
fn faults_of_shape_name_place_and_remedy() {
    assert_says("gravity:", "gravty:", &["two.ron:4:5", "gravty", "did you mean `gravity`?"]);
    assert_says("softening:", "softning:", &["two.ron:4:15", "did you mean `softening`?"]);
    assert_says("Leapfrog", "leapfrog", &["two.ron:5:17", "did you mean `Leapfrog`?"]);
    assert_says("Leapfrog", "yoshida4", &["did you mean `Yoshida4`?"]);
    assert_says("Leapfrog(dt", "Leapfrog(dtt", &["two.ron:5:26", "did you mean `dt`?"]);
    assert_says("gravity:", "contract: Native64, gravity:", &["did you mean `native64`?"]);
    assert_says(
        "mass: 1.0",
        "mass: \"heavy\"",
        &["two.ron:8:29", "expected a number", "bodies[0].mass", "without quotes"],
    );
    assert_says("(0, 0, 0)", "(0, 0)", &["bodies[0].position", "three numbers (x, y, z)"]);
    assert_says("(0, 0, 0)", "(0, 0, 0, 0)", &["bodies[0].position", "three numbers (x, y, z)"]);
    assert_says("    name: \"two bodies\",\n", "", &["`name`", "add `name: ...` to this"]);
    assert_says("\"two bodies\",", "\"two bodies\"", &["two.ron:4:5", "expected a comma", "missing at or before"]);
    assert_says("    ],\n    expect", "    \n    expect", &["two.ron:11:5", "bodies: [", "this bracket is not closed"]);
    assert_says("    ],\n)\n", "    ],\n", &["this bracket is not closed"]);
    assert_says("within: 3),\n    ],\n)\n", "within: 3),\n    ],\n) junk", &["two.ron:15:3", "after the end"]);
    assert_says("Time(10)", "Steps(-1)", &["two.ron:6:", "negative or too large"]);
    assert_says("Time(10)", "Steps(1e3)", &["two.ron:6:"]);
    assert_says("\"two bodies\"", "two", &["two.ron:3:11", "expected text in double quotes"]);
    assert_says("name: \"two bodies\",", "name: \"a\", name: \"b\",", &["two.ron:3:", "name"]);
    assert_says("Leapfrog(dt: 0.01)", "\"Leapfrog\"", &["two.ron:5:", "without quotes"]);
}

#[test]
fn faults_of_shape_say_what_was_expected_in_plain_words() {
    assert_says(
        "softening:",
        "softning:",
        &["`softning` is not a field of `Gravity`, which has `constant`, `softening`"],
    );
    assert_says("Leapfrog", "leapfrog", &["`leapfrog` is not one of `Leapfrog`, `Yoshida4`"]);
    assert_says("Time(10)", "10", &["expected a name", "a choice begins with its name, as in `Steps(1000)`"]);
    assert_says("Time(10)", "Steps(1e3)", &["whole numbers are written 1000"]);
    assert_says("dt: 0.01", "", &["two.ron:5:", "the field `dt` is missing", "add `dt: ...` to this Leapfrog"]);
    assert_says("dt: 0.01", "dt: 1, dt: 2", &["two.ron:5:", "the field `dt` is given twice"]);
    assert_says("until:", "/* until:", &["two.ron:6:8", "Unclosed block comment"]);
}

#[test]
fn the_version_comes_first_whatever_the_rest_looks_like() {
    assert_says("version: 1", "version: 7", &["two.ron:2:14", "this program reads version 1", "version 7"]);
    assert_says("version: 1,\n", "version: 7, shape: Unknown(a: {}),\n", &["this program reads version 1"]);
    assert_says("    version: 1,\n", "", &["two.ron:1:1", "has no version", "`version: 1`"]);
    assert_says("version: 1", "version: one", &["two.ron:2:14", "whole number"]);
    let later = "(version: 2, everything: [is, different], (and not even RON";
    assert!(shown(&read("x.ron", later, &[]).unwrap_err()).contains("this program reads version 1"));
}

#[test]
fn empty_and_foreign_files_are_refused() {
    for text in ["", "   // nothing", "()", "[]", "42", "{}", "x,y,z\n1,2,3\n", "\u{0}", "\u{2028} ", "(((((", ")"] {
        let report = shown(&read("x.ron", text, &[]).unwrap_err());
        assert!(report.len() > 20, "{text}: {report}");
    }
    let deep = "(".repeat(100_000);
    assert!(shown(&read("x.ron", &deep, &[]).unwrap_err()).contains("more than 128 deep"));
}

#[test]
fn faults_of_meaning_name_place_value_and_remedy() {
    assert_says("\"two bodies\"", "\"\"", &["two.ron:3:11", "is empty"]);
    assert_says("\"two bodies\"", "\"a/b\"", &["two.ron:3:11", "has the character '/'", "letters a-z"]);
    assert_says("\"two bodies\"", "\"..\"", &["two.ron:3:11"]);
    assert_says("\"two bodies\"", "\"nul.x\"", &["device"]);
    assert_says("softening: 0.0", "softening: -1", &["two.ron:4:26", "`softening` is -1", "zero or above"]);
    assert_says("softening: 0.0", "softening: NaN", &["two.ron:4:26", "`softening` is NaN"]);
    assert_says("softening: 0.0", "constant: -1", &["gravity.constant", "`constant` is -1"]);
    assert_says("dt: 0.01", "dt: 0", &["two.ron:5:30", "`dt` is 0", "above zero"]);
    assert_says("dt: 0.01", "dt: inf", &["two.ron:5:30", "`dt` is inf"]);
    assert_says("dt: 0.01", "dt: 1e999", &["two.ron:5:30", "`dt` is inf"]);
    assert_says("Time(10)", "Time(-10)", &["two.ron:6:17", "is -10"]);
    assert_says("Time(10)", "Steps(0)", &["two.ron:6:12", "0 steps"]);
    assert_says("Time(10)", "Time(1e15)", &["two.ron:6:12", "1.000e17 steps", "2^53", "longer `dt`"]);
    assert_says("Time(10)", "Steps(9007199254740993)", &["2^53"]);
    assert_says("mass: 1.0", "mass: -1.0", &["two.ron:8:29", "`mass` is -1"]);
    assert_says("mass: 1e-3", "mass: 0", &["two.ron:9:31", "mass 0", "test particle", "`inertia: ...`"]);
    assert_says("mass: 1e-3", "mass: 1, inertia: 2", &["bodies[1].inertia", "another inertia"]);
    assert_says("mass: 1e-3", "mass: 0, inertia: -2", &["`inertia` is -2"]);
    assert_says("mass: 1e-3", "mass: 1, radius: -2", &["`radius` is -2"]);
    assert_says("[1, 0, 0]", "[1, NaN, 0]", &["bodies[1].position[1]", "`position[1]` is NaN"]);
    assert_says(
        "\"earth\"",
        "\"sun\"",
        &["two.ron:9:16", "\"sun\" is given twice", "bodies[0].name", "bodies[1].name"],
    );
    assert_says("[1, 0, 0]", "[0, -0.0, 0]", &["bodies[0] and bodies[1] are both at", "softening"]);
}

#[test]
fn faults_of_audit_output_quanta_and_expectations_are_found() {
    let before = |text: &str| format!("{text}, until:");
    let says = |text: &str, parts: &[&str]| assert_says("until:", &before(text), parts);
    says("quanta: Auto(headroom: 0.5)", &["two.ron:6:28", "`headroom` is 0.5", "between 1 and 2^20"]);
    says("quanta: Auto(headroom: NaN)", &["`headroom` is NaN"]);
    says("quanta: Given(position: -1001, momentum: 0, mass: 0)", &["quanta.position", "-1001", "-1000 and 1000"]);
    says("audit: (energy_tolerance: 0)", &["audit.energy_tolerance", "`energy_tolerance` is 0"]);
    says("audit: (energy_step_tolerance: -1)", &["audit.energy_step_tolerance"]);
    says("audit: (centre_of_mass_tolerance: NaN)", &["audit.centre_of_mass_tolerance"]);
    says("output: (diagnostics: (steps: 0))", &["output.diagnostics.steps", "at least 1"]);
    says("output: (checkpoint: (wall: 0))", &["output.checkpoint.wall"]);
    says("output: (checkpoint: (time: -1))", &["output.checkpoint.time"]);
    says("output: (keep_checkpoints: 0)", &["output.keep_checkpoints", "at least 1"]);
    assert_says("below: 1e-6", "below: 0", &["expect[0].below"]);
    assert_says(
        "of: \"earth\"",
        "of: \"erth\"",
        &["two.ron:13:22", "no body has the name \"erth\"", "did you mean `earth`?"],
    );
    assert_says("at: 5.0", "at: 5.005", &["two.ron:13:35", "not a whole number of steps", "5.01"]);
    assert_says("at: 5.0", "at: 11", &["two.ron:13:35", "after the end of the run at 10"]);
    assert_says("at: 5.0", "at: -1", &["`at` is -1"]);
    assert_says("within: 3", "within: -3", &["expect[1].within"]);
    let expect = |text: &str, parts: &[&str]| assert_says("EnergyDrift(below: 1e-6)", text, parts);
    expect("StateRoot(is: \"abc\")", &["expect[0].is", "32 hexadecimal digits"]);
    expect("LagrangeRadius(fraction: 0, between: (0, 1))", &["expect[0].fraction", "above 0 and at most 1"]);
    expect("LagrangeRadius(fraction: 0.5, between: (2, 1))", &["expect[0].between", "write (1, 2)"]);
    expect("VirialRatio(between: (NaN, 1))", &["expect[0].between[0]"]);
}

#[test]
fn faults_of_generators_are_found() {
    let says = |text: &str, parts: &[&str]| assert_says("until:", &format!("generators: [{text}], until:"), parts);
    says("Plummer(count: 0, mass: 1, radius: 1)", &["generators[0].count", "at least 1"]);
    says("Plummer(count: 5, mass: 0, radius: 1)", &["generators[0].mass"]);
    says("Plummer(count: 5, mass: 1, radius: -1)", &["generators[0].radius"]);
    says("Plummer(count: 5, mass: 1, radius: 1, place: (offset: (0, inf, 0)))", &["generators[0].place.offset[1]"]);
    says("Plummer(count: 5000000000, mass: 1, radius: 1)", &["5000000002 bodies", "2^32"]);
    says("CubicLattice(side: 18446744073709551615, spacing: 1, mass: 1)", &["2^32"]);
    says("CubicLattice(side: 2, spacing: 0, mass: 1)", &["generators[0].spacing"]);
    says("UniformSphere(count: 5, mass: 1, radius: 1, virial_ratio: -1)", &["generators[0].virial_ratio"]);
    says("UniformSphere(count: 1, mass: 1, radius: 1, virial_ratio: 1)", &["a single body"]);
    let disc = "ExponentialDisc(count: 5, mass: 1, scale_length: 1, scale_height: 0.1, ";
    says(&format!("{disc} halo_mass: 5)"), &["the halo has no `halo_radius`", "the halo has no `halo_count`"]);
    says(&format!("{disc} toomre_q: -5)"), &["generators[0].toomre_q"]);
    let kepler = "Kepler(masses: (1, 1), semi_major_axis: 1, ";
    says(&format!("{kepler} eccentricity: 1)"), &["generators[0].eccentricity", "below 1"]);
    says(&format!("{kepler} eccentricity: NaN)"), &["generators[0].eccentricity", "NaN"]);
    says(&format!("{kepler} eccentricity: 0, names: (\"sun\", \"b\"))"), &["generators[0].names[0]", "bodies[0].name"]);
    says("Plumer(count: 0, mass: 1, radius: 1)", &["did you mean `Plummer`?"]);
}

#[test]
fn no_bodies_at_all_are_a_fault() {
    let text = "(version: 1, name: \"empty\", integrator: Leapfrog(dt: 1), until: Steps(1))";

    let report = shown(&read("e.ron", text, &[]).unwrap_err());

    assert!(report.contains("there are no bodies") && report.contains("generators: [...]"), "{report}");
}

#[test]
fn a_scenario_of_test_particles_alone_has_no_centre_of_mass() {
    let text = GOOD
        .replace("version: 1,", "version: 1, recentre: true,")
        .replace("mass: 1.0", "mass: 0, inertia: 1")
        .replace("mass: 1e-3", "mass: 0, inertia: 1");

    let report = shown(&read("two.ron", &text, &[]).unwrap_err());

    assert!(report.contains("two.ron:2:27") && report.contains("no centre of mass"), "{report}");
}

#[test]
fn a_fault_of_generation_can_be_shown_in_its_place() {
    let text = GOOD.replace("bodies: [", "generators: [Table(path: \"none.csv\")], bodies: [");
    let scenario = read("two.ron", &text, &[]).map_err(|report| shown(&report)).unwrap();

    let fault = population(&scenario, Path::new("/nowhere")).unwrap_err();

    let report = shown(&report("two.ron", &text, &[], &[fault]));
    assert!(report.contains("two.ron:7:30") && report.contains("/nowhere/none.csv"), "{report}");
}

#[test]
fn all_faults_of_meaning_come_at_once() {
    let text = GOOD.replace("dt: 0.01", "dt: -1").replace("mass: 1.0", "mass: NaN").replace("below: 1e-6", "below: -2");

    let report = read("two.ron", &text, &[]).unwrap_err();

    assert_eq!(report.faults().len(), 3);
    let shown = shown(&report);
    for part in ["two.ron has 3 faults", "two.ron:5:30", "two.ron:8:29", "two.ron:12:28"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn a_report_of_ten_thousand_faults_shows_the_first_twenty() {
    let body = "(mass: -1, position: (0, 0, 0), velocity: (0, 0, 0)),\n";
    let text = GOOD.replace("0.0)", "1.0)").replace("bodies: [\n", &format!("bodies: [\n{}", body.repeat(10_000)));

    let report = read("many.ron", &text, &[]).unwrap_err();

    assert_eq!(report.faults().len(), 10_000);
    assert!(shown(&report).contains("10000 faults; the first 20 are shown"));
}

#[test]
fn a_fault_on_an_endless_line_is_shown_without_the_line() {
    let body = "(mass: 1, position: (0, é, 0), velocity: (0, 0, 0)), ".replace('é', "0 /* é */");
    let text = GOOD.replace("0.0)", "1.0)").replace("[1, 0, 0]", "[1, NaN, 0]");
    let text = text.replace("bodies: [\n", &format!("bodies: [{}", body.repeat(5_000)));
    let text = text.replace("expect: [\n", &format!("expect: [ /* {} */", "é".repeat(9_000)));

    let one = shown(&read("long.ron", &text, &[]).unwrap_err());
    let two = shown(&read("long.ron", &text.replacen("mass: 1", "mass: -1", 1), &[]).unwrap_err());

    assert!(one.contains("long.ron:8:51") && one.contains("NaN, 0]") && one.len() < 6_000, "{} {one}", one.len());
    assert!(two.contains("long.ron:7:21") && two.len() < 12_000, "{} {two}", two.len());
    let twice = text.replacen("mass: 1", "name: \"sun\", mass: 1", 1);
    let apart = shown(&read("long.ron", &twice, &[]).unwrap_err());
    assert!(apart.contains("\"sun\" is given twice"), "{apart}");
}

#[test]
fn an_override_changes_what_is_read() {
    let overrides = [set("integrator.dt", "0.1"), set("audit.energy_every", "5"), set("bodies[1].mass", "2")];

    let scenario = read("two.ron", GOOD, &overrides).map_err(|report| shown(&report)).unwrap();

    assert_eq!((scenario.dt(), scenario.audit.energy_every, scenario.bodies[1].mass), (0.1, 5, 2.0));
}

#[test]
fn an_override_that_breaks_something_is_named() {
    let report = |overrides: &[(String, String)]| shown(&read("two.ron", GOOD, overrides).unwrap_err());

    let touched = report(&[set("recentre", "true"), set("integrator.dt", "-5")]);
    assert!(touched.contains("`dt` is -5") && touched.contains("this was set by --set integrator.dt=-5"), "{touched}");
    let elsewhere = report(&[set("integrator.dt", "0.3")]);
    assert!(
        elsewhere.contains("not a whole number") && elsewhere.contains("the file alone is free of this"),
        "{elsewhere}"
    );
    let shape = report(&[set("integrator", "leapfrog(dt: 5.0)")]);
    assert!(shape.contains("did you mean `Leapfrog`?") && shape.contains("set by --set integrator="), "{shape}");
    let unknown = report(&[set("audit.energy_evry", "5")]);
    assert!(unknown.contains("did you mean `energy_every`?"), "{unknown}");
    let missing = report(&[set("bodies[2].mass", "5")]);
    assert!(missing.contains("--set bodies[2].mass=5: there is no `bodies[2]`"), "{missing}");
    assert!(missing.contains("two.ron:7:13"), "{missing}");
    let unquoted = report(&[set("name", "other thing")]);
    assert!(unquoted.contains("is not one value"), "{unquoted}");
    let text = read("two.ron", &GOOD.replace("],\n)", ""), &[set("name", "\"x\"")]).unwrap_err();
    assert!(shown(&text).contains("two.ron"), "{}", shown(&text));
}

#[test]
fn a_fault_of_the_file_is_not_blamed_on_an_override() {
    let text = GOOD.replace("dt: 0.01", "dt: -1");

    let report = shown(&read("two.ron", &text, &[set("bodies[0].mass", "2")]).unwrap_err());

    assert!(report.contains("`dt` is -1") && !report.contains("set by") && !report.contains("file alone"), "{report}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = std::env::temp_dir().join(format!("emmy-read-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let latin = folder.join("latin.ron");
    std::fs::write(&latin, b"(name: \"\xe9\")").unwrap();
    let marked = folder.join("marked.ron");
    std::fs::write(&marked, format!("\u{FEFF}{GOOD}")).unwrap();

    let not_found = read_file(&folder.join("none.ron")).unwrap_err();
    let directory = read_file(&folder).unwrap_err();
    let not_text = read_file(&latin).unwrap_err();

    assert!(not_found.to_string().contains("none.ron: there is no such file"), "{not_found}");
    assert!(matches!(directory, ReadError::IsDirectory { .. }), "{directory}");
    assert!(not_text.to_string().contains("not UTF-8 text; the first wrong byte is at offset 8"), "{not_text}");
    assert_eq!(read_file(&marked).unwrap(), GOOD);
    #[cfg(unix)]
    assert!(matches!(read_file(Path::new("/dev/zero")).unwrap_err(), ReadError::TooLarge { .. }));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_written_reads_back_as_the_same_scenario() {
    let all = include_str!("data/all_fields.ron");
    for text in [GOOD, all, include_str!("data/galaxy.ron")] {
        let scenario: Scenario = read("x.ron", text, &[]).map_err(|report| shown(&report)).unwrap();

        let written = scenario.to_ron();

        let again = read("again.ron", &written, &[]).map_err(|report| shown(&report)).unwrap();
        assert_eq!(scenario, again, "{written}");
        assert!(written.contains("keep_checkpoints"), "defaults are written out: {written}");
        assert_eq!(again.to_ron(), written);
    }
}

#[test]
fn a_time_that_is_whole_but_for_rounding_takes_no_extra_step() {
    let steps = |dt: &str, time: &str| {
        let overrides = [set("integrator.dt", dt), set("until", &format!("Time({time})")), set("expect", "[]")];
        read("two.ron", GOOD, &overrides).map_err(|report| shown(&report)).unwrap().steps()
    };

    assert_eq!(steps("0.1", "0.3"), 3);
    assert_eq!(steps("0.1", "1e7"), 100_000_000);
    assert_eq!(steps("0.1", "0.31"), 4);
    assert_eq!(steps("0.1", "0.01"), 1);
    assert_eq!(steps("0.001", "1e12"), 1_000_000_000_000_000);
}
