"""The CSV export of a list: all rows that its filters select, streamed."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import get_language, override

from apps.console.readonly import VIEW_RAW, ReadOnlyAdmin
from techmarket.spreadsheets import write_csv

CHUNK_ROWS = 2_000  # fetched at a time by the export


class ExportAdmin(ReadOnlyAdmin):
    """Adds *Export CSV* to the list. A page names the file's columns and returns the cells of a row."""

    csv_name: str
    csv_header: tuple[str, ...]
    list_before_template = "console/export.html"

    def csv_cells(self, row: Any, raw: bool) -> Sequence[object]:
        """Return the row's cells in the active language. `raw`: the reader may see personal data."""
        raise NotImplementedError

    def get_urls(self) -> list[Any]:
        export = self.admin_site.admin_view(self.export)
        name = f"{self.opts.app_label}_{self.opts.model_name}_csv"
        return [path("csv/", export, name=name), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """Stream all rows that the list's filters select, with no more than CHUNK_ROWS in memory."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET"])
        try:
            rows = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        lines = write_csv(self.csv_header, self.read_cells(rows, get_language(), request.user.has_perm(VIEW_RAW)))
        headers = {"Content-Disposition": f'attachment; filename="{self.csv_name}"'}
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)

    def read_cells(self, rows: "QuerySet[Model]", language: str | None, raw: bool) -> Iterator[Sequence[object]]:
        for row in rows.iterator(chunk_size=CHUNK_ROWS):
            with override(language):  # the response is streamed when the request, and its language, may be over
                cells = self.csv_cells(row, raw)
            yield cells
