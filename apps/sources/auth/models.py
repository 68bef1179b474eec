"""auth_db: who may do what."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.sources.rows import SourceRow


class UserStatus(models.TextChoices):
    ACTIVE = "active", _("Active")
    DISABLED = "disabled", _("Disabled")
    BLOCKED = "blocked", _("Blocked")


class RoleName(models.TextChoices):
    ADMIN = "ADMIN"
    SALES = "SALES"
    CUSTOMER = "CUSTOMER"
    BI_VIEWER = "BI_VIEWER"


class User(SourceRow):
    """An account; of a customer, of an employee, or of neither (an administrator)."""

    personal = ("email",)

    email = models.CharField(_("email"), max_length=254, unique=True, help_text=_("what the person logs in with"))
    status = models.CharField(_("status"), max_length=20, choices=UserStatus, help_text=_("whether the person may log in"))
    customer_id = models.BigIntegerField(
        _("customer id"), null=True, blank=True, db_index=True, help_text=_("customers.id in orders_db; empty: not a customer's")
    )
    employee_id = models.BigIntegerField(
        _("employee id"), null=True, blank=True, db_index=True, help_text=_("employees.id in orders_db; empty: not an employee's")
    )

    class Meta:
        db_table = "auth_users"
        verbose_name = _("account")
        verbose_name_plural = _("accounts")

    def __str__(self) -> str:
        return self.email


class Credential(SourceRow):
    """The password of one account, as a hash."""

    user = models.OneToOneField(User, models.CASCADE, verbose_name=_("user"), help_text=_("whose password it is"))
    password_hash = models.CharField(_("password hash"), max_length=255, help_text=_("with its salt; the ETL does not read it"))
    algo = models.CharField(_("algorithm"), max_length=40, help_text=_("how the hash was made"))
    password_updated_at = models.DateTimeField(_("password updated at"), help_text=_("when the password was last set"))

    class Meta:
        db_table = "auth_credentials"
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")


class Token(SourceRow):
    """One access token of an account, as a hash."""

    user = models.ForeignKey(User, models.CASCADE, verbose_name=_("user"), help_text=_("whose token it is"))
    token_hash = models.CharField(
        _("token hash"), max_length=64, unique=True, help_text=_("SHA-256, hexadecimal; the ETL does not read it")
    )
    issued_at = models.DateTimeField(_("issued at"), help_text=_("when it was given out"))
    expires_at = models.DateTimeField(_("expires at"), help_text=_("good until then, excluded"))
    revoked = models.BooleanField(_("revoked"), default=False, help_text=_("taken back before its time"))
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True, help_text=_("empty: never"))
    user_agent = models.CharField(
        _("user agent"), max_length=255, blank=True, help_text=_("the program that asked for it, as it names itself")
    )
    ip = models.CharField(_("IP"), max_length=45, blank=True, help_text=_("the address it was asked for from, IPv4 or IPv6"))
    scopes = models.CharField(_("scopes"), max_length=255, blank=True, help_text=_("what it allows, by name, joined with spaces"))

    class Meta:
        db_table = "auth_tokens"
        verbose_name = _("token")
        verbose_name_plural = _("tokens")


class Role(SourceRow):
    """One of the four roles that an account may have."""

    name = models.CharField(_("name"), max_length=20, choices=RoleName, unique=True, help_text=_("by which programs know it"))
    comment = models.CharField(_("comment"), max_length=255, blank=True, help_text=_("what it is for, to people"))

    class Meta:
        db_table = "roles"
        verbose_name = _("role")
        verbose_name_plural = _("roles")

    def __str__(self) -> str:
        return self.name


class UserRole(SourceRow):
    """That an account has a role."""

    user = models.ForeignKey(User, models.CASCADE, verbose_name=_("user"), help_text=_("the account"))
    role = models.ForeignKey(Role, models.CASCADE, verbose_name=_("role"), help_text=_("the role it has"))

    class Meta:
        db_table = "user_roles"
        verbose_name = _("role of an account")
        verbose_name_plural = _("roles of accounts")
        constraints = [models.UniqueConstraint(fields=["user", "role"], name="user_roles_user_role")]
