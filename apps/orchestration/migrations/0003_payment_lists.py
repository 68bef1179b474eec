from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0002_proof")]

    operations = [
        migrations.AlterModelOptions(
            name="standingreject",
            options={"ordering": ["-id"], "permissions": [("accept_standingreject", "Can accept a reject")]},
        ),
        migrations.CreateModel(
            name="PaymentMismatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=16)),
                ("order_id", models.BigIntegerField()),
                ("day", models.DateField(blank=True, null=True)),
                ("net", models.DecimalField(decimal_places=2, max_digits=24)),
                ("captured", models.DecimalField(decimal_places=2, max_digits=24)),
                ("refunded", models.DecimalField(decimal_places=2, max_digits=24)),
                ("checked_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-order_id"],
                "constraints": [models.UniqueConstraint(fields=("kind", "order_id"), name="one_mismatch_per_list_and_order")],
            },
        ),
    ]
