import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import apps.sources.rows


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Role",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("name", models.CharField(max_length=20, unique=True)),
                ("comment", models.CharField(blank=True, max_length=255)),
            ],
            options={
                "db_table": "roles",
            },
        ),
        migrations.CreateModel(
            name="User",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("email", models.CharField(max_length=254, unique=True)),
                ("status", models.CharField(max_length=20)),
                ("customer_id", models.BigIntegerField(blank=True, db_index=True, null=True)),
                ("employee_id", models.BigIntegerField(blank=True, db_index=True, null=True)),
            ],
            options={
                "db_table": "auth_users",
            },
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("token_hash", models.CharField(max_length=64, unique=True)),
                ("issued_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("revoked", models.BooleanField(default=False)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("user_agent", models.CharField(blank=True, max_length=255)),
                ("ip", models.CharField(blank=True, max_length=45)),
                ("scopes", models.CharField(blank=True, max_length=255)),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auth_db.user")),
            ],
            options={
                "db_table": "auth_tokens",
            },
        ),
        migrations.CreateModel(
            name="Credential",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("password_hash", models.CharField(max_length=255)),
                ("algo", models.CharField(max_length=40)),
                ("password_updated_at", models.DateTimeField()),
                ("user", models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, to="auth_db.user")),
            ],
            options={
                "db_table": "auth_credentials",
            },
        ),
        migrations.CreateModel(
            name="UserRole",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                (
                    "updated_at",
                    apps.sources.rows.UpdatedAtField(db_default=django.db.models.functions.datetime.Now(), db_index=True, editable=False),
                ),
                ("role", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auth_db.role")),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auth_db.user")),
            ],
            options={
                "db_table": "user_roles",
                "constraints": [models.UniqueConstraint(fields=("user", "role"), name="user_roles_user_role")],
            },
        ),
    ]
