"""The public interface: what it offers, and that it does what its docstring shows."""

from pathlib import Path

import pytest

import planner

SCENARIOS = Path(__file__).parents[2] / "scenarios"
PUBLIC = [
    "InputError",
    "Plan",
    "PlannerError",
    "Report",
    "__version__",
    "alternatives",
    "explain_plan",
    "export",
    "infeasible",
    "likely",
    "load_scenario",
    "pareto",
    "plan_text",
    "plot_explanation",
    "predict",
    "read_plan",
    "report_text",
    "sensitivity",
    "solve",
    "verify_plan",
    "why_not",
]


def test_the_public_names_are_these():
    assert sorted(planner.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(planner, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = planner.nonsense


def test_solve_write_read_verify(tmp_path):
    report = planner.solve(planner.load_scenario(SCENARIOS / "quickstart.yaml", ["search.tp=[2, 4]"]))
    assert "README.md" in planner.export(report.plan, "vllm")
    assert isinstance(report, planner.Report)
    assert planner.verify_plan(report.plan).reasons == ()
    file = tmp_path / "plan.json"
    file.write_text(planner.plan_text(report.plan), encoding="utf-8")
    assert planner.report_text(report).startswith("quickstart: ")
    assert planner.read_plan(file) == report.plan


def test_explanations_are_tables_in_notebooks():
    plan = planner.solve(planner.load_scenario(SCENARIOS / "quickstart.yaml", ["search.tp=[2, 4]"])).plan
    for shown in (planner.explain_plan(plan), planner.why_not(plan, tp=4), planner.alternatives(plan, count=2)):
        assert shown._repr_html_().count("<table>") == shown._repr_html_().count("</table>") > 0
        assert "| --: |" in shown._repr_markdown_()
    with pytest.raises(planner.InputError, match="did you mean 'tp'"):
        planner.why_not(plan, tpp=4)


def test_faults_are_one_exception_with_all_problems():
    with pytest.raises(planner.InputError) as caught:
        planner.load_scenario(SCENARIOS / "quickstart.yaml", ["confidence=2", "models.chat.architecture=none"])
    assert len(caught.value.problems) == 2


def test_a_scenario_may_be_given_as_mappings():
    import yaml

    content = yaml.safe_load((SCENARIOS / "quickstart.yaml").read_text(encoding="utf-8"))
    given = planner.solve(planner.load_scenario(content, ["search.tp=[2]"], SCENARIOS)).plan
    read = planner.solve(planner.load_scenario(SCENARIOS / "quickstart.yaml", ["search.tp=[2]"])).plan
    assert given.deployments == read.deployments


def test_public_names_complete_in_a_shell():
    assert set(dir(planner)) == set(planner.__all__)
