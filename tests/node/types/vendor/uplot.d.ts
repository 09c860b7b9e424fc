declare const uPlot: { new (...of: any[]): any; [name: string]: any };
export default uPlot;
