"""What one part of a configuration says of another must be true: names exist, rules match."""

import pytest
import yaml

from dujiang.config import Config, ConfigInvalid, parse_config


def tree() -> dict:
    return {
        "vendors": {
            "acme": {
                "protocol": "openai",
                "base_url": "http://127.0.0.1:9100/v1",
                "credentials": [{"name": "main", "key": "k"}, {"name": "spare", "key": "k"}],
            }
        },
        "models": {
            "assistant": {
                "aliases": ["helper"],
                "deployments": [{"vendor": "acme", "credential": "main", "model": "gpt-4o-mini"}],
            },
            "writer": {"deployments": [{"vendor": "acme", "credential": "spare", "model": "gpt-4o"}]},
        },
        "plans": {"starter": {"models": ["assistant"]}},
        "tenants": [
            {
                "id": "shop",
                "plan": "starter",
                "keys": [{"name": "dev", "secret": "secret-of-dev-0001"}],
                "projects": [{"id": "kiosk", "keys": [{"name": "dev", "secret": "secret-of-kiosk-01"}]}],
            }
        ],
    }


def check(config: dict) -> Config:
    return parse_config(yaml.safe_dump(config, sort_keys=False), {})


def problems_of(config: dict) -> dict[str, str]:
    with pytest.raises(ConfigInvalid) as caught:
        check(config)
    assert all(problem.line for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_configuration_whose_names_all_exist_is_valid():
    assert check(tree()).models["assistant"].aliases == ("helper",)


def test_a_deployment_names_a_vendor_that_is_there():
    config = tree()
    config["models"]["assistant"]["deployments"][0]["vendor"] = "acne"
    assert problems_of(config) == {
        "models.assistant.deployments[0].vendor": "there is no vendor 'acne'; did you mean 'acme'?"
    }


def test_a_deployment_names_a_credential_of_that_vendor():
    config = tree()
    config["models"]["assistant"]["deployments"][0]["credential"] = "other"
    assert problems_of(config) == {
        "models.assistant.deployments[0].credential": "there is no credential 'other'; there are: main, spare"
    }


def test_credentials_of_a_vendor_have_names_of_their_own():
    config = tree()
    config["vendors"]["acme"]["credentials"].append({"name": "main", "key": "k"})
    assert problems_of(config) == {
        "vendors.acme.credentials[2].name": "a second credential 'main'; names are unique in a vendor"
    }


def test_a_limit_of_a_credential_matches_a_deployed_model():
    config = tree()
    limit = {"dimension": "requests", "window": "60s", "value": 1, "models": ["gpt-4o-mini", "gpt-4o"]}
    config["vendors"]["acme"]["credentials"][0]["limits"] = [limit]
    # gpt-4o is deployed, but under the other credential.
    assert problems_of(config) == {
        "vendors.acme.credentials[0].limits[0].models[1]": (
            "this limit matches nothing: there is no deployed vendor model 'gpt-4o'; did you mean 'gpt-4o-mini'?"
        )
    }


def test_a_name_of_a_model_is_taken_once():
    config = tree()
    config["models"]["writer"]["aliases"] = ["helper"]
    assert problems_of(config) == {"models.writer": "the name 'helper' is taken by model 'assistant' already"}
    config["models"]["writer"]["aliases"] = ["assistant"]
    assert problems_of(config) == {"models.writer": "the name 'assistant' is taken by model 'assistant' already"}


def test_weights_let_something_through():
    config = tree()
    config["models"]["assistant"]["strategy"] = "weighted"
    config["models"]["assistant"]["deployments"][0]["weight"] = 0
    assert problems_of(config) == {"models.assistant.deployments": "every weight is 0, so no call could go; raise one"}
    config["models"]["assistant"]["strategy"] = "ordered"
    assert check(config)


def test_a_plan_names_models_or_aliases_that_are_there():
    config = tree()
    config["plans"]["starter"]["models"] = ["helper", "writer", "writr"]
    assert problems_of(config) == {"plans.starter.models[2]": "there is no model 'writr'; did you mean 'writer'?"}


def test_a_limit_of_a_plan_matches_a_model():
    config = tree()
    limit = {"dimension": "tokens", "window": "day", "value": 9, "models": ["sculptor-9000"]}
    config["plans"]["starter"]["limits"] = [limit]
    assert problems_of(config) == {
        "plans.starter.limits[0].models[0]": (
            "this limit matches nothing: there is no model 'sculptor-9000'; there are: assistant, helper, writer"
        )
    }


@pytest.mark.parametrize("where", ["tenant_key", "project", "project_key"])
def test_a_limit_of_a_key_or_project_matches_a_model(where):
    config = tree()
    limits = [{"dimension": "tokens", "window": "60s", "value": 9, "models": ["sculptor-9000"]}]
    tenant = config["tenants"][0]
    path, section = {
        "tenant_key": ("tenants[0].keys[0]", tenant["keys"][0]),
        "project": ("tenants[0].projects[0]", tenant["projects"][0]),
        "project_key": ("tenants[0].projects[0].keys[0]", tenant["projects"][0]["keys"][0]),
    }[where]
    section["limits"] = limits
    assert list(problems_of(config)) == [f"{path}.limits[0].models[0]"]


def test_a_tenant_names_a_plan_that_is_there():
    config = tree()
    config["tenants"][0]["plan"] = "start"
    assert problems_of(config) == {"tenants[0].plan": "there is no plan 'start'; did you mean 'starter'?"}
    config["plans"] = {}
    assert problems_of(config) == {"tenants[0].plan": "there is no plan 'start'; there are: none"}


def test_tenants_projects_and_keys_have_names_of_their_own():
    config = tree()
    config["tenants"].append({"id": "shop", "plan": "starter"})
    tenant = config["tenants"][0]
    tenant["projects"] += [{"id": "kiosk"}, {"id": "default"}]
    tenant["keys"].append({"name": "dev", "secret": "secret-of-dev-0002"})
    assert problems_of(config) == {
        "tenants[1].id": "a second tenant 'shop'; ids are unique",
        "tenants[0].projects[1].id": "a second project 'kiosk'; `default` holds the tenant's own keys",
        "tenants[0].projects[2].id": "a second project 'default'; `default` holds the tenant's own keys",
        "tenants[0].keys[1].name": "a second key 'dev'; names are unique in a project",
    }


def test_every_key_has_a_secret_of_its_own():
    config = tree()
    config["tenants"][0]["projects"][0]["keys"][0]["secret"] = "secret-of-dev-0001"
    assert problems_of(config) == {
        "tenants[0].projects[0].keys[0].secret": "the same secret as shop/default/dev; every key needs its own"
    }


def test_a_key_names_models_that_are_there():
    config = tree()
    config["tenants"][0]["keys"][0]["models"] = ["assistant", "poet"]
    assert problems_of(config) == {
        "tenants[0].keys[0].models[1]": "there is no model 'poet'; there are: assistant, helper, writer"
    }
