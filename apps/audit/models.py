"""The audit log and its head, which apps/audit/chain.py alone writes; and what each user has asked for lately (apps/audit/rates.py)."""

from django.db import models
from django.utils.translation import gettext_lazy as _

HASH_LENGTH = 64  # of SHA-256 in hexadecimal digits
MAX_NAME, MAX_OBJECT, MAX_REASON, MAX_ADDRESS = 150, 200, 255, 45


class Deed(models.TextChoices):
    LOGIN = "login", _("Logged in")
    LOGIN_FAILED = "login_failed", _("Login failed")
    LOGIN_REFUSED = "login_refused", _("Login refused: too many failures")
    PROVIDER_LOGIN_REFUSED = "provider_login_refused", _("Login by the provider refused")
    LOGOUT = "logout", _("Logged out")
    SESSION_ENDED = "session_ended", _("Session ended")
    USER_ADDED = "user_added", _("User added")
    USER_CHANGED = "user_changed", _("User changed")
    USER_DEACTIVATED = "user_deactivated", _("User deactivated")
    USER_REACTIVATED = "user_reactivated", _("User reactivated")
    USER_DELETED = "user_deleted", _("User deleted")
    PASSWORD_CHANGED = "password_changed", _("Password changed")
    FACTOR_ADDED = "factor_added", _("Second factor added")
    FACTOR_REMOVED = "factor_removed", _("Second factor removed")
    FACTORS_RESET = "factors_reset", _("Second factor reset")
    RECOVERY_CODE_USED = "recovery_code_used", _("Recovery code used")
    STAFF_CHANGED = "staff_changed", _("Admin access changed")
    SUPERUSER_GRANTED = "superuser_granted", _("Superuser status granted")
    SUPERUSER_REVOKED = "superuser_revoked", _("Superuser status revoked")
    GROUPS_CHANGED = "groups_changed", _("Groups of a user changed")
    PERMISSIONS_CHANGED = "permissions_changed", _("Permissions of a user changed")
    GROUP_ADDED = "group_added", _("Group added")
    GROUP_CHANGED = "group_changed", _("Group changed")
    GROUP_DELETED = "group_deleted", _("Group deleted")
    GROUP_PERMISSIONS_CHANGED = "group_permissions_changed", _("Permissions of a group changed")
    RUN_STARTED = "run_started", _("Run started")
    DRY_RUN_STARTED = "dry_run_started", _("Dry run started")
    RUN_RERUN = "run_rerun", _("Run started again")
    RUN_SKIPPED = "run_skipped", _("Run skipped")
    RUN_RESUMED = "run_resumed", _("Run resumed")
    RUN_ACCEPTED = "run_accepted", _("Run accepted")
    RUN_CANCELLED = "run_cancelled", _("Run cancelled")
    REJECTS_REPLAYED = "rejects_replayed", _("Rejects replayed")
    REJECTS_ACCEPTED = "rejects_accepted", _("Rejects accepted")
    MISSED_RUN_STARTED = "missed_run_started", _("Missed run started")
    MISSED_RUN_BACKFILLED = "missed_run_backfilled", _("Missed run backfilled")
    MISSED_RUN_SKIPPED = "missed_run_skipped", _("Missed run skipped")
    SCHEDULE_ADDED = "schedule_added", _("Schedule added")
    SCHEDULE_PAUSED = "schedule_paused", _("Schedule paused")
    SCHEDULE_RESUMED = "schedule_resumed", _("Schedule resumed")
    SCHEDULE_CHANGED = "schedule_changed", _("Schedule changed")
    SCHEDULE_DELETED = "schedule_deleted", _("Schedule deleted")
    CRONTAB_ADDED = "crontab_added", _("Crontab added")
    CRONTAB_CHANGED = "crontab_changed", _("Crontab changed")
    CRONTAB_DELETED = "crontab_deleted", _("Crontab deleted")
    DATA_EXPORTED = "data_exported", _("Data exported")
    REPORT_WRITTEN = "report_written", _("Report written")
    REQUESTS_REFUSED = "requests_refused", _("Requests refused: too many")
    PERSONAL_DATA_VIEWED = "personal_data_viewed", _("Personal data viewed")
    SETTINGS_SEEN = "settings_seen", _("Settings changed")
    ERASURE_REQUESTED = "erasure_requested", _("Erasure of a customer requested")
    CUSTOMER_FORGOTTEN = "customer_forgotten", _("Customer forgotten")
    BACKUP_MADE = "backup_made", _("Backup made")
    BACKUP_ACCEPTED = "backup_accepted", _("Unsigned backup accepted")
    BACKUP_RESTORED = "backup_restored", _("Backup restored")
    DEMO_GENERATED = "demo_generated", _("Demo data generated")
    DATABASES_MIGRATED = "databases_migrated", _("Databases migrated")
    SOURCES_COMPARED = "sources_compared", _("Sources compared")
    METABASE_SEEDED = "metabase_seeded", _("Metabase set up")
    AUDIT_VERIFIED = "audit_verified", _("Audit log verified")
    AUDIT_DELETED = "audit_deleted", _("Old audit entries deleted")
    SEAL_BROKEN = "seal_broken", _("Seal of the audit log broken")


class ActorKind(models.TextChoices):
    USER = "user", _("user")
    OPERATING_SYSTEM = "os", _("system user")
    SCHEDULE = "schedule", _("schedule")


class Entry(models.Model):
    """A deed. Nothing here refers to another table, so that no deletion elsewhere takes an entry along."""

    number = models.BigIntegerField(_("number"), primary_key=True, help_text=_("position in the chain, without gaps"))
    at = models.DateTimeField(_("time"), help_text=_("by the clock of the control database"), db_index=True)
    actor = models.CharField(_("person"), max_length=MAX_NAME, blank=True, db_index=True)
    actor_id = models.BigIntegerField(_("user id"), null=True)
    actor_kind = models.CharField(_("kind"), max_length=10, choices=ActorKind)
    deed = models.CharField(_("deed"), max_length=30, choices=Deed)
    object_type = models.CharField(_("type of the object"), max_length=60, blank=True)
    object_id = models.CharField(_("id of the object"), max_length=64, blank=True)
    object_name = models.CharField(_("object"), max_length=MAX_OBJECT, blank=True)
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)
    reason = models.CharField(_("reason"), max_length=MAX_REASON, blank=True)
    address = models.CharField(_("address"), max_length=MAX_ADDRESS, blank=True, help_text=_("from which the request came"))
    request_id = models.CharField(_("request id"), max_length=64, blank=True, help_text=_("as in the log and in the answer's X-Request-ID"))
    previous_hash = models.CharField(_("hash of the entry before"), max_length=HASH_LENGTH)
    hash = models.CharField(_("hash of the entry"), max_length=HASH_LENGTH)

    class Meta:
        db_table = "audit_entry"
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        ordering = ("-number",)
        indexes = [models.Index(fields=["object_type", "object_id"], name="audit_entry_object")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.number} {self.get_deed_display()}"


class Head(models.Model):
    """The last entry of the chain, and the first that is still stored. Its seal needs SECRET_KEY, which no database holds."""

    number = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=HASH_LENGTH)
    first_number = models.BigIntegerField(default=1)
    first_previous_hash = models.CharField(max_length=HASH_LENGTH)
    seal = models.CharField(max_length=HASH_LENGTH, blank=True)

    class Meta:
        db_table = "audit_head"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


class RequestRate(models.Model):
    """The costly requests of a user in a minute: the latest in which there was one."""

    user_id = models.BigIntegerField(primary_key=True)
    minute = models.BigIntegerField()  # since 1970, by the clock of the control database
    count = models.IntegerField()

    class Meta:
        db_table = "audit_request_rate"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id}: {self.count}"
