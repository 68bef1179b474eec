"""auth_db: accounts, their roles and access tokens."""

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
    """An account of a customer, of an employee, or of neither (an administrator)."""

    personal = ("email",)

    email = models.CharField(_("email"), max_length=254, unique=True, help_text=_("login name"))
    status = models.CharField(_("status"), max_length=20, choices=UserStatus, help_text=_("whether the account can sign in"))
    customer_id = models.BigIntegerField(
        _("customer id"), null=True, blank=True, db_index=True, help_text=_("customers.id in orders_db; empty if not a customer")
    )
    employee_id = models.BigIntegerField(
        _("employee id"), null=True, blank=True, db_index=True, help_text=_("employees.id in orders_db; empty if not an employee")
    )

    class Meta:
        db_table = "auth_users"
        verbose_name = _("account")
        verbose_name_plural = _("accounts")

    def __str__(self) -> str:
        return self.email


class Credential(SourceRow):
    """The password of an account, stored as a hash."""

    user = models.OneToOneField(User, models.CASCADE, verbose_name=_("user"), help_text=_("account of the password"))
    password_hash = models.CharField(_("password hash"), max_length=255, help_text=_("includes the salt; not read by the ETL"))
    algo = models.CharField(_("algorithm"), max_length=40, help_text=_("hash algorithm"))
    password_updated_at = models.DateTimeField(_("password updated at"), help_text=_("when the password was last changed"))

    class Meta:
        db_table = "auth_credentials"
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")


class Token(SourceRow):
    """An access token of an account, stored as a hash."""

    is_short_lived = True

    user = models.ForeignKey(User, models.CASCADE, verbose_name=_("user"), help_text=_("account of the token"))
    token_hash = models.CharField(_("token hash"), max_length=64, unique=True, help_text=_("SHA-256, hexadecimal; not read by the ETL"))
    issued_at = models.DateTimeField(_("issued at"), help_text=_("when the token was issued"))
    expires_at = models.DateTimeField(_("expires at"), help_text=_("when the token expires, exclusive"))
    revoked = models.BooleanField(_("revoked"), default=False, help_text=_("whether the token was revoked early"))
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True, help_text=_("empty if never used"))
    user_agent = models.CharField(_("user agent"), max_length=255, blank=True, help_text=_("client program, as it identifies itself"))
    ip = models.CharField(_("IP"), max_length=45, blank=True, help_text=_("client address, IPv4 or IPv6"))
    scopes = models.CharField(_("scopes"), max_length=255, blank=True, help_text=_("granted scopes, separated by spaces"))

    class Meta:
        db_table = "auth_tokens"
        verbose_name = _("token")
        verbose_name_plural = _("tokens")


class Role(SourceRow):
    """A role that accounts can have; there are four."""

    name = models.CharField(_("name"), max_length=20, choices=RoleName, unique=True, help_text=_("unique name, used by programs"))
    comment = models.CharField(_("comment"), max_length=255, blank=True, help_text=_("description for people"))

    class Meta:
        db_table = "roles"
        verbose_name = _("role")
        verbose_name_plural = _("roles")

    def __str__(self) -> str:
        return self.name


class UserRole(SourceRow):
    """A role of an account."""

    user = models.ForeignKey(User, models.CASCADE, verbose_name=_("user"), help_text=_("account that has the role"))
    role = models.ForeignKey(Role, models.CASCADE, verbose_name=_("role"), help_text=_("role of the account"))

    class Meta:
        db_table = "user_roles"
        verbose_name = _("role of an account")
        verbose_name_plural = _("roles of accounts")
        constraints = [models.UniqueConstraint(fields=["user", "role"], name="user_roles_user_role")]
