// A page opened from the disk may not start a worker, and the search is one: there it runs in a hidden frame.
// Messages are copied, as a worker's are; the search changes what it is sent.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const scope = this.frame.contentWindow;
      scope.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }));
      this.started = new Promise((resolve) => {
        const script = scope.document.createElement("script");
        script.src = url;
        script.onload = () => resolve(scope);
        script.onerror = () => this.onerror?.(new Error(`${url} cannot be read`));
        scope.document.body.append(script);
      });
    }

    postMessage(data) {
      this.started.then((scope) => scope.onmessage({ data: structuredClone(data) }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
