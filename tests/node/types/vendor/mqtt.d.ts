declare const mqtt: { connect(url: string, options: any): any; [name: string]: any };
export default mqtt;
