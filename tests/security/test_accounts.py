"""Nobody gives, takes or resets more than the permissions they have, and nobody is deleted."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from apps.console.groups import ADMINISTRATOR, VIEWER
from tests.console.conftest import SignIn

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def test_administrator_cannot_create_a_superuser(sign_in: SignIn) -> None:
    client, olena = sign_in(ADMINISTRATOR), User.objects.create_superuser("olena")
    added = client.post(reverse("admin:auth_user_add"), {"username": "petro", "usable_password": "false", "is_superuser": "on"})
    petro = User.objects.get(username="petro")
    assert added.status_code == 302 and petro.is_staff and not petro.is_superuser
    form = {"username": "petro", "is_active": "on", "is_staff": "on", "is_superuser": "on", "user_permissions": ["1"], "groups": []}
    assert client.post(reverse("admin:auth_user_change", args=[petro.pk]), form).status_code == 302
    petro.refresh_from_db()
    assert not petro.is_superuser and not petro.user_permissions.exists()
    for name, form in (("auth_user_change", {"username": "mine"}), ("auth_user_delete", {"post": "yes"})):
        assert client.post(reverse(f"admin:{name}", args=[olena.pk]), form).status_code == 403
    assert client.get(reverse("admin:auth_user_password_change", args=[olena.pk])).status_code == 403
    assert User.objects.get(pk=olena.pk).username == "olena"


def test_standard_groups_cannot_be_changed(sign_in: SignIn) -> None:
    client, viewer = sign_in(ADMINISTRATOR), Group.objects.get(name=VIEWER)
    for name in ("auth_group_change", "auth_group_delete"):
        assert client.post(reverse(f"admin:{name}", args=[viewer.pk]), {"name": "x", "post": "yes"}).status_code == 403
    assert Group.objects.filter(name=VIEWER).exists()


def test_new_group_has_only_permissions_of_its_creator(sign_in: SignIn) -> None:
    offered = sign_in(ADMINISTRATOR).get(reverse("admin:auth_group_add")).context["adminform"].form.fields["permissions"].queryset
    names = set(offered.values_list("content_type__app_label", "codename"))
    assert ("orchestration", "start_run") in names and ("orchestration", "delete_run") not in names


# --- The climb: join a group with more permissions, or take over an account of it ---


@pytest.fixture
def engineers(transactional_db: None) -> Group:
    """Return a group that a superuser has made, with a permission that administrators do not have."""
    group = Group.objects.create(name="engineers")
    group.permissions.set([Permission.objects.get(codename="add_periodictask"), Permission.objects.get(codename="view_run")])
    return group


@pytest.fixture(params=["of the group", "with a permission of their own", "deactivated"])
def engineer(request: pytest.FixtureRequest, engineers: Group) -> User:
    person = User.objects.create_user("iryna", password="a long enough pass phrase", is_staff=True)
    if request.param == "with a permission of their own":
        person.user_permissions.set(engineers.permissions.all())
    else:
        person.groups.set([engineers])
    person.is_active = request.param != "deactivated"
    person.save()
    return person


def test_administrator_joins_no_group_with_more_permissions(sign_in: SignIn, engineers: Group) -> None:
    client, administrators = sign_in(ADMINISTRATOR), Group.objects.get(name=ADMINISTRATOR)
    me = User.objects.get(username=ADMINISTRATOR)
    form = {"username": me.username, "is_active": "on", "is_staff": "on", "groups": [administrators.pk, engineers.pk]}
    answer = client.post(reverse("admin:auth_user_change", args=[me.pk]), form)
    assert answer.status_code == 200 and "groups" in answer.context["adminform"].form.errors
    assert set(me.groups.all()) == {administrators} and not User.objects.get(pk=me.pk).has_perm("django_celery_beat.add_periodictask")


def test_administrator_takes_over_no_account_with_more_permissions(sign_in: SignIn, engineer: User) -> None:
    client, before = sign_in(ADMINISTRATOR), User.objects.filter(pk=engineer.pk).values().get()
    form = {"usable_password": "true", "password1": "another long pass phrase", "password2": "another long pass phrase"}
    assert client.post(reverse("admin:auth_user_password_change", args=[engineer.pk]), form).status_code == 403
    form = {"username": "iryna", "is_active": "on", "is_staff": "on", "groups": []}
    assert client.post(reverse("admin:auth_user_change", args=[engineer.pk]), form).status_code == 403
    assert User.objects.filter(pk=engineer.pk).values().get() == before


def test_administrator_changes_no_group_with_more_permissions(sign_in: SignIn, engineers: Group) -> None:
    client, before = sign_in(ADMINISTRATOR), set(engineers.permissions.all())
    form = {"name": "engineers", "permissions": []}
    assert client.post(reverse("admin:auth_group_change", args=[engineers.pk]), form).status_code == 403
    assert client.post(reverse("admin:auth_group_delete", args=[engineers.pk]), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": engineers.pk, "post": "yes"}
    assert client.post(reverse("admin:auth_group_changelist"), chosen).status_code == 403
    assert set(Group.objects.get(name="engineers").permissions.all()) == before


def test_administrator_manages_people_with_the_same_or_fewer_permissions(sign_in: SignIn) -> None:
    client, oksana = sign_in(ADMINISTRATOR), User.objects.create_user("oksana", is_staff=True)
    oksana.groups.set([Group.objects.get(name=ADMINISTRATOR)])
    form = {"usable_password": "true", "password1": "another long pass phrase", "password2": "another long pass phrase"}
    assert client.post(reverse("admin:auth_user_password_change", args=[oksana.pk]), form).status_code == 302
    form = {"username": "oksana", "is_active": "on", "is_staff": "on", "groups": [Group.objects.get(name=VIEWER).pk]}
    assert client.post(reverse("admin:auth_user_change", args=[oksana.pk]), form).status_code == 302
    oksana.refresh_from_db()
    assert oksana.check_password("another long pass phrase") and [group.name for group in oksana.groups.all()] == [VIEWER]


def test_nobody_is_deleted(client: Client) -> None:
    olena, petro = User.objects.create_superuser("olena"), User.objects.create_user("petro")
    client.force_login(olena)
    assert client.post(reverse("admin:auth_user_delete", args=[petro.pk]), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": petro.pk, "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    assert User.objects.filter(username="petro").exists()
