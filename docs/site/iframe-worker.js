// Search on files opened from disk: a browser starts no worker from a file, so its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const scope = frame.contentWindow
      scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.loaded = new Promise((resolve, reject) => {
        const script = scope.document.createElement("script")
        script.src = url
        script.onload = () => resolve(scope)
        script.onerror = () => reject(new Error(`not found: ${url}`))
        scope.document.body.append(script)
      })
      this.terminate = () => frame.remove()
    }
    postMessage(data) {
      this.loaded.then(scope => scope.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
